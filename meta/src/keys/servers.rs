//! `counters` "servers": [`Servers`], the metadata servers that were ever added or removed. An id is
//! there for ever: it is never given to another server.

use bincode::{Decode, Encode};
use cairn_types::NodeId;

use super::Record;
use crate::store::Table;

/// The row's key.
pub const KEY: &[u8] = b"servers";
/// The highest id of a metadata server; data nodes have those above.
pub const ID_MAX: u64 = 100;

/// Which directory a server runs on: made at random when it first starts to join a cluster, and gone
/// with the directory. All zero for the first members, which have none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct DirectoryId(pub [u8; 16]);

/// The metadata servers that were ever added or removed. First members are here only once they are
/// removed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct Servers {
    /// By id, ascending; as many as [`ID_MAX`] at most.
    pub known: Vec<KnownServer>,
}

/// A metadata server that was added or removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct KnownServer {
    /// Its id.
    pub node: NodeId,
    /// Its directory.
    pub directory: DirectoryId,
    /// It was removed, or its removal has begun: it never becomes a member again.
    pub removed: bool,
}

impl Record for Servers {
    const TABLE: Table = Table::Counters;
}

impl Servers {
    /// The server with that id, if it was ever added or removed.
    #[must_use]
    pub fn get(&self, node: NodeId) -> Option<KnownServer> {
        self.known.iter().copied().find(|server| server.node == node)
    }

    /// Writes down what is known of a server.
    pub fn set(&mut self, server: KnownServer) {
        match self.known.binary_search_by_key(&server.node, |known| known.node) {
            Ok(at) => self.known.splice(at..=at, [server]).for_each(drop),
            Err(at) => self.known.insert(at, server),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_kept_in_order_each_once() {
        let mut servers = Servers::default();
        let server =
            |node, removed| KnownServer { node: NodeId(node), directory: DirectoryId([3; 16]), removed };
        for (node, removed) in [(4, false), (2, true), (9, false), (4, true)] {
            servers.set(server(node, removed));
        }
        assert_eq!(servers.known, [server(2, true), server(4, true), server(9, false)]);
        assert_eq!(servers.get(NodeId(4)), Some(server(4, true)));
        assert_eq!(servers.get(NodeId(3)), None);
    }
}
