//! An event as a watcher is told it.

use cairn_proto::convert::kind_and_device;
use cairn_proto::v1;
use cairn_types::InodeId;

use crate::keys::events::{EventKind, Site};
use crate::namespace::events::Told;
use crate::service::watch::sight::Sight;

/// The event for a watch of `ino`, if it is one of what is watched and may be told. A name that may not
/// be told is as one outside, and is not named.
pub fn event(told: &Told, ino: InodeId, recursive: bool, seen: Sight) -> Option<v1::WatchEvent> {
    let event = &told.event;
    let lies = |site: &Site| site.lies_in(ino, recursive);
    let inside = lies(&event.site) && seen.site;
    let to_inside = event.to().is_some_and(lies) && seen.to;
    if !(event.is_of(ino) || inside || to_inside) {
        return None;
    }
    let (file_kind, device) = kind_and_device(event.kind);
    let mut wire = v1::WatchEvent {
        index: told.index.0,
        number: told.number.into(),
        ino: event.ino.0,
        file_kind: file_kind.into(),
        device,
        version: event.version,
        inside,
        to_inside,
        ..v1::WatchEvent::default()
    };
    if seen.site {
        wire.parent = event.site.parent.0;
        wire.name = event.site.name.clone().into();
    }
    if let Some(to) = event.to().filter(|_| seen.to) {
        wire.to_parent = to.parent.0;
        wire.to_name = to.name.clone().into();
    }
    wire.kind = match &event.what {
        EventKind::Created => v1::WatchKind::Created,
        EventKind::Removed { last } => {
            wire.last = *last;
            v1::WatchKind::Removed
        }
        EventKind::Renamed { .. } => v1::WatchKind::Renamed,
        EventKind::Exchanged { other, other_kind, other_version, .. } => {
            let (kind, device) = kind_and_device(*other_kind);
            (wire.other, wire.other_kind, wire.other_device) = (other.0, kind.into(), device);
            wire.other_version = *other_version;
            v1::WatchKind::Exchanged
        }
        EventKind::Content => v1::WatchKind::Content,
        EventKind::Attributes => v1::WatchKind::Attributes,
        EventKind::Policy => v1::WatchKind::Policy,
        EventKind::MountAdded { mount } => {
            wire.mount = mount.0;
            v1::WatchKind::MountAdded
        }
        EventKind::MountRemoved { mount, fresh } => {
            (wire.mount, wire.other) = (mount.0, fresh.0);
            wire.other_kind = v1::FileKind::Directory.into();
            v1::WatchKind::MountRemoved
        }
        EventKind::Imported => v1::WatchKind::Imported,
    }
    .into();
    Some(wire)
}
