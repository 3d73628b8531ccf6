//! The `Data` service: decode, call, encode. Every call is checked to come from this cluster.

mod append;
mod data;
mod fence;
pub(crate) mod read;
mod survey;

use std::sync::Arc;

pub use data::DataService;

use crate::node::Node;

impl DataService {
    /// The service of `node`.
    #[must_use]
    pub fn new(node: Arc<Node>) -> Self {
        Self { node }
    }
}
