//! What the whole-cluster tests are made with: a cluster of real processes, real S3 servers,
//! a fault proxy to put between them, and what takes their power or their process.

pub mod cluster;
pub mod fault_proxy;
pub mod power;
pub mod s3_server;
pub mod syscall_fault;
