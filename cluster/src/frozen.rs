//! What is on disk and between nodes, written down in `tests/frozen/`.

use std::path::Path;

use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, TransferLeaderRequest,
    VoteRequest, VoteResponse,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use strowger_core::ports::{NodeNumber, Proposal};
use strowger_core::state::FEATURE_LEVEL;
use strowger_frozen::Listing;

use crate::identity::{BootstrapReply, BootstrapRequest, Identity, Token};
use crate::liveness::election::Position;
use crate::liveness::lease::{LeaseAnswer, LeaseRequest};
use crate::liveness::succession::SinceOtherLeader;
use crate::membership::{Hello, HelloAnswer};
use crate::propose::Answer;
use crate::raft::machine::{Applied, Installing};
use crate::raft::network::SnapshotHeader;
use crate::raft::snapshot::Chunk;
use crate::raft::{Entry, LogId, OwnCommand, OwnReply, Payload, Types, Vote};
use crate::store::{decode, encode};
use crate::transport::wire::Kind;
use crate::vouch::{Seen, Standing, Vouch};
use crate::{admission, copy};

/// A listing that is added to.
struct Added(Listing);

impl Added {
    fn and<T: Serialize + DeserializeOwned>(self, what: &str) -> Self {
        let read = |bytes: &[u8]| decode("what was written", bytes).ok();
        Self(self.0.of::<T>(what, encode, read))
    }

    fn check(&self, of: &str) {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/frozen");
        self.0.check(&folder.join(of), FEATURE_LEVEL);
    }
}

#[test]
fn log_snapshot_and_what_is_local_keep_their_encodings() {
    Added(Listing::default())
        .and::<Entry>("Entry")
        .and::<Payload>("Payload")
        .and::<OwnCommand>("OwnCommand")
        .and::<Vote>("Vote")
        .and::<Option<LogId>>("Option<LogId>")
        .and::<Applied>("Applied")
        .and::<Installing>("Installing")
        .and::<Chunk>("Chunk")
        .and::<copy::Taken>("Taken")
        .and::<admission::Token>("Token")
        .and::<Identity>("Identity")
        .and::<Seen>("Seen")
        .check("disk");
}

#[test]
fn what_nodes_say_to_each_other_keeps_its_encodings() {
    Added(Listing::default())
        .and::<VoteRequest<Types>>("VoteRequest")
        .and::<VoteResponse<Types>>("VoteResponse")
        .and::<AppendEntriesRequest<Types>>("AppendEntriesRequest")
        .and::<AppendEntriesResponse<Types>>("AppendEntriesResponse")
        .and::<TransferLeaderRequest<Types>>("TransferLeaderRequest")
        .and::<SnapshotHeader>("SnapshotHeader")
        .and::<SnapshotResponse<Types>>("SnapshotResponse")
        .and::<Vec<Proposal>>("Vec<Proposal>")
        .and::<Vec<Answer>>("Vec<Answer>")
        .and::<Option<OwnReply>>("Option<OwnReply>")
        .and::<LeaseRequest>("LeaseRequest")
        .and::<LeaseAnswer>("LeaseAnswer")
        .and::<Position>("Position")
        .and::<Hello>("Hello")
        .and::<HelloAnswer>("HelloAnswer")
        .and::<NodeNumber>("NodeNumber")
        .and::<Standing>("Standing")
        .and::<Vouch>("Vouch")
        .and::<Vote>("Vote")
        .and::<SinceOtherLeader>("SinceOtherLeader")
        .and::<BootstrapRequest>("BootstrapRequest")
        .and::<BootstrapReply>("BootstrapReply")
        .and::<Token>("Token")
        .check("wire");
}

#[test]
fn kinds_of_requests_keep_their_numbers() {
    let kept = [
        "Vote",
        "PreVote",
        "Append",
        "Transfer",
        "Snapshot",
        "Propose",
        "Own",
        "Lease",
        "Hello",
        "Position",
        "Call",
        "CallBulk",
        "Remove",
        "Vouch",
        "OtherLeader",
    ];
    for (number, name) in (1..).zip(kept) {
        let kind = Kind::from_byte(number).map(|kind| format!("{kind:?}"));
        assert_eq!(kind.as_deref(), Some(name), "{number} is on the wire");
    }
}
