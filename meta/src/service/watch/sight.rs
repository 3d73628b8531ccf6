//! [`Sight`]: what a watcher that said who it is may be told of what changes in directories below the
//! one that it watches: what it could look up and list there, as permissions are when it is told.

use std::collections::HashMap;

use cairn_proto::{ServiceError, WireError};
use cairn_types::{Credentials, InodeId};

use crate::keys::RowFault;
use crate::keys::events::{EventRow, Site};
use crate::namespace::read::{self, Access};
use crate::node::ReadView;
use crate::service::fault;
use crate::store::Rows;

/// Which names of an event a watcher may be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sight {
    /// The name that the event is about.
    pub site: bool,
    /// The one that it became, or was swapped with.
    pub to: bool,
}

impl Sight {
    /// All of it.
    pub const WHOLE: Self = Self { site: true, to: true };
}

/// What may be told of each of these events of a recursive watch of `watched`. Each directory is looked
/// at once, where a wait for the disk holds up nobody.
pub async fn of(
    view: ReadView,
    who: Credentials,
    watched: InodeId,
    events: Vec<EventRow>,
) -> Result<Vec<Sight>, WireError> {
    let look = move || {
        let mut eyes = Eyes { rows: &*view.store, who: &who, watched, known: HashMap::new() };
        events.iter().map(|event| eyes.sight(event)).collect::<Result<_, _>>()
    };
    match tokio::task::spawn_blocking(look).await {
        Ok(seen) => seen.map_err(|row: RowFault| fault(row)),
        Err(_) => Err(ServiceError::Internal.into()),
    }
}

struct Eyes<'r> {
    rows: &'r dyn Rows,
    who: &'r Credentials,
    watched: InodeId,
    known: HashMap<InodeId, Access>,
}

impl Eyes<'_> {
    fn sight(&mut self, event: &EventRow) -> Result<Sight, RowFault> {
        if event.is_of(self.watched) {
            return Ok(Sight::WHOLE);
        }
        let to = event.to().map_or(Ok(true), |to| self.sees(to))?;
        Ok(Sight { site: self.sees(&event.site)?, to })
    }

    /// True for a name that the watcher could list, in a directory that it could come to from what it
    /// watches. What does not lie below that is the watched directory's own affair, or nobody's.
    fn sees(&mut self, site: &Site) -> Result<bool, RowFault> {
        if site.parent == self.watched || !site.lies_in(self.watched, true) {
            return Ok(true);
        }
        if !self.access(site.parent)?.list {
            return Ok(false);
        }
        for above in &site.above {
            if *above == self.watched {
                return Ok(true);
            }
            if !self.access(*above)?.search {
                return Ok(false);
            }
        }
        // Too deep to be known what lies in between.
        Ok(false)
    }

    fn access(&mut self, directory: InodeId) -> Result<Access, RowFault> {
        if let Some(access) = self.known.get(&directory) {
            return Ok(*access);
        }
        let access = read::access(self.rows, self.who, directory)?;
        self.known.insert(directory, access);
        Ok(access)
    }
}
