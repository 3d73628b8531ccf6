//! [`Life`]: a server's process, from its start to its death, which comes at a write of its disks when
//! a [`Fuse`] says so.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use super::executor::{Group, World};

/// What a server does to its disks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Point {
    Append,
    Truncate,
    Purge,
    Vote,
    Committed,
    Sync,
    Apply,
    Flush,
    Checkpoint,
    Open,
}

impl Point {
    pub const ALL: [Self; 10] = [
        Self::Append,
        Self::Truncate,
        Self::Purge,
        Self::Vote,
        Self::Committed,
        Self::Sync,
        Self::Apply,
        Self::Flush,
        Self::Checkpoint,
        Self::Open,
    ];
}

/// Death at a write to come.
#[derive(Clone, Copy, Debug)]
pub struct Fuse {
    /// Of these writes alone.
    pub point: Option<Point>,
    /// So many of them are still done.
    pub left: u64,
    /// The one after them is not done any more.
    pub before: bool,
}

/// The process is dead: nothing that it still does has an effect.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the process is dead")]
pub struct Dead;

/// What loses something when the process dies.
pub trait Forgets: Send + Sync {
    /// The process is dead: what was not made durable may be gone.
    fn forget(&self);
}

#[derive(Default)]
struct Inside {
    dead: bool,
    fuse: Option<Fuse>,
    forgetful: Vec<Weak<dyn Forgets>>,
}

/// One life of a server.
pub struct Life {
    pub world: World,
    pub server: u64,
    pub group: Group,
    // Guards that the process dies once.
    inside: Mutex<Inside>,
    /// Told when it dies.
    mourner: Box<dyn Fn(u64) + Send + Sync>,
}

impl Life {
    pub fn begin(
        world: World,
        server: u64,
        group: Group,
        mourner: Box<dyn Fn(u64) + Send + Sync>,
    ) -> Arc<Self> {
        Arc::new(Self { world, server, group, inside: Mutex::default(), mourner })
    }

    fn inside(&self) -> MutexGuard<'_, Inside> {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn is_over(&self) -> bool {
        self.inside().dead
    }

    /// It will die at that write, unless it dies before.
    pub fn light(&self, fuse: Fuse) {
        self.inside().fuse = Some(fuse);
    }

    /// From now on `forgetful` loses what it must when the process dies.
    pub fn joins(&self, forgetful: Weak<dyn Forgets>) {
        self.inside().forgetful.push(forgetful);
    }

    /// A write: `effect` does it, unless the process is dead or dies first.
    pub fn reach<T>(&self, point: Point, effect: impl FnOnce() -> T) -> Result<T, Dead> {
        let mut inside = self.inside();
        if inside.dead {
            return Err(Dead);
        }
        let mut due = None;
        if let Some(fuse) = inside.fuse.as_mut().filter(|f| f.point.is_none_or(|p| p == point)) {
            match fuse.left.checked_sub(1) {
                Some(left) => fuse.left = left,
                None => due = Some(fuse.before),
            }
        }
        drop(inside);
        if due == Some(true) {
            self.die(&format!("before {point:?}"));
            return Err(Dead);
        }
        let done = effect();
        if due.is_some() {
            self.die(&format!("after {point:?}"));
            return Err(Dead);
        }
        Ok(done)
    }

    /// The end.
    pub fn die(&self, how: &str) {
        let mut inside = self.inside();
        if std::mem::replace(&mut inside.dead, true) {
            return;
        }
        let forgetful = std::mem::take(&mut inside.forgetful);
        drop(inside);
        self.world.tell(|| format!("server {} dies {how}", self.server));
        forgetful.iter().filter_map(Weak::upgrade).for_each(|it| it.forget());
        self.world.kill(self.group);
        (self.mourner)(self.server);
    }
}
