//! The `Data` service: decode, find the disk, call, encode. Every call is checked to come from this cluster.

mod append;
mod data;
mod fence;
mod objects;
pub(crate) mod read;
mod survey;

pub use data::DataService;

use crate::node::Nodes;

impl DataService {
    /// The service of the `nodes` of this process.
    #[must_use]
    pub fn new(nodes: Nodes) -> Self {
        Self { nodes }
    }
}
