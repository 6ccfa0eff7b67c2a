//! Who gets in and who does not, each with its own clear answer.

mod common;

use std::time::Duration;

use common::{block, cluster_of, config, founder, free_address, joiner, voters, wait, write};
use strowger_cluster::{Cluster, JoinError, MemberError, OpenError, Role, StandAside, identity};

#[test]
fn a_token_works_once_and_every_refusal_has_its_reason() {
    let node = founder(|_| {});
    let member = node.cluster();
    let dir = || tempfile::tempdir().expect("directory");
    let join = |token: &str| {
        let dir = dir();
        identity::join(dir.path(), token, free_address()).map(|identity| identity.node)
    };
    let minute = Duration::from_secs(60);

    assert!(matches!(join("nonsense"), Err(JoinError::Malformed(_))));

    let token = block(member.invite(Some(7), minute))
        .expect("invite")
        .to_string();
    assert_eq!(join(&token).expect("join"), 7);
    assert!(matches!(join(&token), Err(JoinError::Used)));
    let taken = block(member.invite(Some(7), minute));
    assert!(
        matches!(taken, Err(MemberError::Refused(_))),
        "a number is given once"
    );
    let next = block(member.invite(None, minute))
        .expect("invite")
        .to_string();
    assert_eq!(join(&next).expect("join"), 2, "the next free number");

    let short = block(member.invite(None, Duration::from_millis(1)))
        .expect("invite")
        .to_string();
    std::thread::sleep(Duration::from_millis(5));
    assert!(matches!(join(&short), Err(JoinError::Expired)));

    // A token of a cluster that was wiped and founded anew at the same address.
    let mut other = founder(|_| {});
    let stale = block(other.cluster().invite(None, minute))
        .expect("invite")
        .to_string();
    other.close();
    let fresh = dir();
    identity::init(fresh.path(), "lab", 1, other.address).expect("init");
    let again = Cluster::open(
        config(fresh.path(), other.address),
        common::Counter::default(),
    );
    let again = again.expect("open");
    assert!(matches!(join(&stale), Err(JoinError::Foreign { .. })));
    again.close();
    assert!(matches!(join(&stale), Err(JoinError::Unreachable(_))));
}

#[test]
fn a_token_the_cluster_forgot_is_wrong() {
    let mut node = founder(|_| {});
    let token = block(node.cluster().invite(None, Duration::from_secs(60))).expect("invite");
    node.close();
    // Same authority, but rows from before the token was made.
    std::fs::remove_dir_all(node.dir.path().join("store")).expect("wipe");
    std::fs::remove_file(node.dir.path().join("identity/lives")).expect("wipe");
    node.open(|_| {});
    wait("it leads", || node.cluster().leader() == Some(1));
    let dir = tempfile::tempdir().expect("directory");
    let joined = identity::join(dir.path(), &token.to_string(), free_address());
    assert!(matches!(joined, Err(JoinError::Wrong)), "{joined:?}");
}

#[test]
fn used_tokens_are_remembered_over_restarts() {
    let mut node = founder(|_| {});
    let token = block(node.cluster().invite(None, Duration::from_secs(60))).expect("invite");
    let dir = tempfile::tempdir().expect("directory");
    identity::join(dir.path(), &token.to_string(), free_address()).expect("join");
    node.close();
    node.open(|_| {});
    wait("it leads", || node.cluster().leader() == Some(1));
    let dir = tempfile::tempdir().expect("directory");
    let joined = identity::join(dir.path(), &token.to_string(), free_address());
    assert!(matches!(joined, Err(JoinError::Used)), "{joined:?}");
}

#[test]
fn a_second_daemon_on_the_same_data_is_refused() {
    let node = founder(|_| {});
    let second = Cluster::open(
        config(node.dir.path(), free_address()),
        common::Counter::default(),
    );
    assert!(matches!(second.err(), Some(OpenError::Locked(_))));
    let empty = tempfile::tempdir().expect("directory");
    let nobody = Cluster::open(
        config(empty.path(), free_address()),
        common::Counter::default(),
    );
    assert!(matches!(nobody.err(), Some(OpenError::Identity(_))));
    let stranger = tempfile::tempdir().expect("directory");
    identity::init(stranger.path(), "lab", 1, node.address).expect("init");
    let taken = Cluster::open(
        config(stranger.path(), node.address),
        common::Counter::default(),
    );
    assert!(matches!(taken.err(), Some(OpenError::Bind { .. })));
    write(node.cluster(), "undisturbed");
}

#[test]
fn a_certificate_of_another_cluster_is_refused() {
    let ours = founder(|_| {});
    // Member 2 of another cluster that believes our address to be its member 1.
    let mut theirs = founder(|_| {});
    let mut stranger = joiner(theirs.cluster());
    theirs.close();
    let mut moved = ours;
    moved.close();
    moved.address = theirs.address;
    moved.open(|_| {});
    stranger.open(|_| {});
    write(moved.cluster(), "ours");
    let refused = block(stranger.cluster().call(
        1,
        strowger_cluster::Lane::Control,
        Vec::new(),
        Duration::from_secs(2),
    ));
    assert!(
        matches!(&refused, Err(strowger_cluster::CallError::Unreachable { why, .. })
            if why.contains("certificate")),
        "{refused:?}"
    );
    assert_eq!(
        moved.cluster().members().len(),
        1,
        "the stranger did not become a member"
    );
}

#[test]
fn a_removed_node_is_gone_for_good_and_five_vote_at_most() {
    let mut nodes = cluster_of(3, |_| {});
    nodes[2].close();
    block(nodes[0].cluster().remove(3)).expect("remove");
    wait("two voters remain", || voters(nodes[1].cluster()) == 2);
    write(nodes[1].cluster(), "still-here");
    nodes[2].open(|_| {});
    wait("the removed node learns it", || {
        nodes[2].cluster().stood_aside() == Some(StandAside::Removed)
    });
    assert_eq!(nodes[0].cluster().members().len(), 2);
    let unknown = block(nodes[1].cluster().remove(9));
    assert!(unknown.is_err());
    let mut late = joiner(nodes[1].cluster());
    assert_eq!(
        late.dir.path().join("identity").exists().then_some(()),
        Some(()),
        "any member admits"
    );
    late.open(|_| {});
    wait("the newcomer votes", || {
        let members = late.cluster().members();
        members
            .iter()
            .any(|member| member.node == 4 && member.role == Role::Voter)
    });
}
