//! What the whole-cluster tests are made with: a cluster of real processes, real S3 servers,
//! and a fault proxy to put between them.

pub mod cluster;
pub mod fault_proxy;
pub mod s3_server;
