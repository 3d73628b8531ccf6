//! [`Lanes`]: how much work of each kind is done at once, so that one kind that hangs (a mount whose
//! endpoint swallows requests) does not stop the others.

use std::sync::Arc;

use cairn_proto::v1;
use cairn_proto::v1::work::Work;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Packs written or deleted at once.
const UPLOADS_MAX: usize = 8;
/// Directories of mounts read at once.
const IMPORTS_MAX: usize = 8;
/// Objects of mounts written or deleted at once: most wait for the endpoint alone, and their buffers are bounded by
/// themselves. Apart from them, those with much to be sent or copied.
const OBJECTS_MAX: usize = 64;
const LARGE_OBJECTS_MAX: usize = 2;
/// From here on an object has much to be sent, or to be copied by the endpoint.
const LARGE_SENT_BYTES: u64 = 16 << 20;
const LARGE_BYTES: u64 = 1 << 30;
/// Mounts tried at once.
const PROBES_MAX: usize = 2;
/// Merges of small extents at once: they wait behind everything else.
const MERGES_MAX: usize = 1;
/// Replicas copied at once.
const COPIES_MAX: usize = 8;
/// Pieces that change this node's replicas only, at once.
const NOTICES_MAX: usize = 64;
/// Pieces of one kind that wait for their turn here.
const WAITING_MAX: usize = 512;

/// The turns of all kinds of work. Cheap to clone.
#[derive(Clone)]
pub(super) struct Lanes {
    uploads: Lane,
    merges: Lane,
    imports: Lane,
    objects: Lane,
    large_objects: Lane,
    probes: Lane,
    copies: Lane,
    notices: Lane,
}

impl Default for Lanes {
    fn default() -> Self {
        Self {
            uploads: Lane::new(UPLOADS_MAX),
            merges: Lane::new(MERGES_MAX),
            imports: Lane::new(IMPORTS_MAX),
            objects: Lane::new(OBJECTS_MAX),
            large_objects: Lane::new(LARGE_OBJECTS_MAX),
            probes: Lane::new(PROBES_MAX),
            copies: Lane::new(COPIES_MAX),
            notices: Lane::new(NOTICES_MAX),
        }
    }
}

impl Lanes {
    /// A place for `piece`. `None` when its lane is full and the leader sends it again by itself; a
    /// notice is said once, so it is waited for.
    pub(super) async fn enter(&self, piece: &Work) -> Option<Place> {
        let (lane, said_once) = match piece {
            Work::Upload(_) | Work::DeletePack(_) | Work::Compact(_) => (&self.uploads, false),
            Work::Merge(_) => (&self.merges, false),
            Work::Import(_) => (&self.imports, false),
            Work::PutObject(work) if is_large(work) => (&self.large_objects, false),
            Work::PutObject(_) | Work::DeleteObject(_) => (&self.objects, false),
            Work::ProbeMount(_) => (&self.probes, false),
            Work::Copy(_) => (&self.copies, false),
            Work::Delete(_) => (&self.notices, false),
            Work::Sealed(_) | Work::Persisted(_) => (&self.notices, true),
        };
        lane.enter(said_once).await
    }
}

/// True for an object that must not stand before small ones.
fn is_large(work: &v1::PutObject) -> bool {
    let copied = |piece: &v1::ObjectPiece| matches!(piece.source, Some(v1::object_piece::Source::Object(_)));
    let sent = work.pieces.iter().filter(|piece| !copied(piece)).map(|piece| piece.length);
    work.length > LARGE_BYTES || sent.fold(0, u64::saturating_add) > LARGE_SENT_BYTES
}

#[derive(Clone)]
struct Lane {
    /// For what is being done.
    turns: Arc<Semaphore>,
    /// For that and what waits.
    places: Arc<Semaphore>,
}

impl Lane {
    fn new(turns: usize) -> Self {
        let (turns, places) = (Semaphore::new(turns), Semaphore::new(turns + WAITING_MAX));
        Self { turns: Arc::new(turns), places: Arc::new(places) }
    }

    async fn enter(&self, wait: bool) -> Option<Place> {
        let places = Arc::clone(&self.places);
        let place = if wait { places.acquire_owned().await.ok() } else { places.try_acquire_owned().ok() };
        place.map(|place| Place { turns: Arc::clone(&self.turns), _place: place })
    }
}

/// A piece's place in its lane.
pub(super) struct Place {
    turns: Arc<Semaphore>,
    _place: OwnedSemaphorePermit,
}

impl Place {
    /// Waits for the piece's turn, in the order of the lane, and does it.
    pub(super) async fn take_turn<T>(self, work: impl Future<Output = T>) -> T {
        // Never closed; were it, doing more at once would only cost memory.
        let _turn = self.turns.acquire().await.ok();
        work.await
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    #[tokio::test]
    async fn one_kind_that_hangs_leaves_the_others_their_turns() {
        let lanes = Lanes::default();
        let import = Work::Import(v1::Import::default());
        let mut hanging = Vec::new();
        while let Some(place) = lanes.enter(&import).await {
            let mut turn = Box::pin(place.take_turn(std::future::pending::<()>()));
            assert!(turn.as_mut().now_or_never().is_none());
            hanging.push(turn);
        }
        assert_eq!(hanging.len(), IMPORTS_MAX + WAITING_MAX);
        for piece in [
            Work::Upload(v1::Upload::default()),
            Work::Copy(v1::CopyReplica::default()),
            Work::Sealed(v1::SealedNotice::default()),
        ] {
            let place = lanes.enter(&piece).await.unwrap();
            assert_eq!(place.take_turn(std::future::ready(1)).now_or_never(), Some(1));
        }
        // What ends makes room, for a turn and for a place.
        hanging.clear();
        let place = lanes.enter(&import).await.unwrap();
        assert_eq!(place.take_turn(std::future::ready(2)).now_or_never(), Some(2));
    }

    #[tokio::test]
    async fn large_objects_leave_small_ones_their_turns() {
        let lanes = Lanes::default();
        let piece = |length| v1::ObjectPiece { length, ..v1::ObjectPiece::default() };
        let put = |length| {
            Work::PutObject(v1::PutObject { length, pieces: vec![piece(length)], ..v1::PutObject::default() })
        };
        let mut hanging = Vec::new();
        while let Some(place) = lanes.enter(&put(17 << 20)).await {
            let mut turn = Box::pin(place.take_turn(std::future::pending::<()>()));
            assert!(turn.as_mut().now_or_never().is_none());
            hanging.push(turn);
        }
        assert_eq!(hanging.len(), LARGE_OBJECTS_MAX + WAITING_MAX);
        for piece in [put(16 << 20), Work::DeleteObject(v1::DeleteObject::default())] {
            let place = lanes.enter(&piece).await.unwrap();
            assert_eq!(place.take_turn(std::future::ready(1)).now_or_never(), Some(1));
        }
    }

    #[tokio::test]
    async fn a_notice_is_waited_for() {
        let lanes = Lanes::default();
        let notice = Work::Persisted(v1::PersistedNotice::default());
        let mut places = Vec::new();
        for _ in 0..NOTICES_MAX + WAITING_MAX {
            places.push(lanes.enter(&notice).await.unwrap());
        }
        let mut next = Box::pin(lanes.enter(&notice));
        assert!(next.as_mut().now_or_never().is_none());
        places.pop();
        assert!(next.await.is_some());
    }
}
