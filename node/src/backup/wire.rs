//! A backup on its way from a node to whoever asked: frames of kind (1 byte), length
//! (4 bytes, big endian) and content, the end told by a frame of its own.

use std::sync::Arc;

use axum::body::{Body, Bytes};
use serde::{Deserialize, Serialize};
use strowger_cluster::copy::Taken;
use strowger_core::ids::BlobId;
use strowger_core::ports::Table;
use strowger_core::state::{MetaRow, decode_row};
use tokio::sync::mpsc;

use crate::api::Office;
use crate::fault::{Fault, code};
use crate::limits;

/// What a frame holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Kind {
    /// [`Head`], first.
    Head = 1,
    /// Encoded rows.
    Rows = 2,
    /// A whole sound file begins: its id.
    Blob = 3,
    /// Bytes of the sound file begun last.
    Piece = 4,
    /// [`End`], last.
    End = 5,
}

impl Kind {
    pub(super) fn from_byte(byte: u8) -> Option<Self> {
        let all = [Self::Head, Self::Rows, Self::Blob, Self::Piece, Self::End];
        all.into_iter().find(|kind| *kind as u8 == byte)
    }
}

/// Of what the backup is.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Head {
    pub(super) cluster: String,
    pub(super) name: String,
    pub(super) node: u64,
    pub(super) taken: Taken,
    pub(super) version: String,
    pub(super) taken_at: String,
}

/// Said when everything was sent.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct End {
    pub(super) rows: u64,
    pub(super) state_hash: String,
    pub(super) feature_level: u32,
    /// BLAKE3 of all frames before this one, hexadecimal.
    pub(super) blake3: String,
}

/// A backup of this node's rows and sound files as a body. One at a time; it ends early,
/// without its last frame, when a row is damaged or the reader is too slow.
///
/// # Errors
/// [`code::BUSY`] while another is taken, [`code::REFUSED`] when the node has nothing to
/// give: it stands aside or has applied nothing.
pub async fn stream(office: &Arc<Office>) -> Result<Body, Fault> {
    let place = Arc::clone(&office.backups).try_acquire_owned();
    let place = place.map_err(|_| {
        let next = "wait for its end";
        Fault::new(
            code::BUSY,
            "another backup of this node is being taken",
            next,
        )
    })?;
    if let Some(why) = office.cluster.stood_aside() {
        let next = "ask a node that serves";
        return Err(Fault::of(code::REFUSED, &why, next));
    }
    let blobs = office.named_blobs();
    let copy = office.cluster.copy().await;
    let copy = copy.map_err(|error| Fault::of(code::REFUSED, &error, "ask another node"))?;
    let (give, take) = mpsc::channel::<Result<Bytes, std::io::Error>>(4);
    let office = Arc::clone(office);
    tokio::spawn(async move {
        let mut sender = Sender {
            give,
            hasher: blake3::Hasher::new(),
        };
        let sent = tokio::select! {
            sent = send(&office, copy, blobs, &mut sender) => sent,
            () = office.stop.cancelled() => Err("the node ends".to_owned()),
        };
        if let Err(why) = sent {
            tracing::warn!(why, "a backup was broken off");
            let broken = std::io::Error::other(why);
            let _ = sender.give.try_send(Err(broken));
        }
        drop(place);
    });
    let frames = futures_util::stream::unfold(take, |mut take| async move {
        let frame = take.recv().await?;
        Some((frame, take))
    });
    Ok(Body::from_stream(frames))
}

struct Sender {
    give: mpsc::Sender<Result<Bytes, std::io::Error>>,
    hasher: blake3::Hasher,
}

impl Sender {
    async fn frame(&mut self, kind: Kind, content: &[u8]) -> Result<(), String> {
        let length = u32::try_from(content.len()).map_err(|error| error.to_string())?;
        let mut frame = Vec::with_capacity(5 + content.len());
        frame.push(kind as u8);
        frame.extend_from_slice(&length.to_be_bytes());
        frame.extend_from_slice(content);
        self.hasher.update(&frame);
        let sending = self.give.send(Ok(frame.into()));
        let sent = tokio::time::timeout(limits::BACKUP_STALL_MAX, sending).await;
        sent.map_err(|_| "its reader stalled".to_owned())?
            .map_err(|_| "its reader left".to_owned())
    }

    async fn json(&mut self, kind: Kind, content: &impl Serialize) -> Result<(), String> {
        let text = serde_json::to_vec(content).map_err(|error| error.to_string())?;
        self.frame(kind, &text).await
    }
}

async fn send(
    office: &Office,
    mut copy: strowger_cluster::copy::RowsCopy,
    mut blobs: std::collections::BTreeSet<BlobId>,
    sender: &mut Sender,
) -> Result<(), String> {
    let head = Head {
        cluster: office.cluster.cluster_id().to_string(),
        name: office.cluster.name().to_owned(),
        node: office.cluster.node(),
        taken: copy.taken(),
        version: crate::VERSION.to_owned(),
        taken_at: office.now().rfc3339(),
    };
    sender.json(Kind::Head, &head).await?;
    let mut rows = 0;
    let mut meta: Option<MetaRow> = None;
    while let Some(some) = copy.next().await.map_err(|error| error.to_string())? {
        rows += some.rows();
        if let Some(found) = some.find(Table::Meta, strowger_core::state::store::META_KEY) {
            meta = decode_row(found);
        }
        sender.frame(Kind::Rows, &some.encoded()).await?;
    }
    drop(copy);
    let meta = meta.ok_or("the state has no singletons yet")?;
    // Sites put in force since name further ones, which do no harm; those of a site that
    // was replaced since were asked for before.
    blobs.extend(office.named_blobs());
    for id in blobs {
        let bytes = office.blobs.store().get(id).await;
        let bytes = bytes.ok_or_else(|| format!("this node lacks the sound file {id}"))?;
        sender.frame(Kind::Blob, &id.0).await?;
        for piece in bytes.chunks(limits::BLOB_PIECE_BYTES) {
            sender.frame(Kind::Piece, piece).await?;
        }
    }
    let end = End {
        rows,
        state_hash: hex::encode(meta.hash),
        feature_level: meta.feature_level,
        blake3: sender.hasher.finalize().to_hex().to_string(),
    };
    sender.json(Kind::End, &end).await
}
