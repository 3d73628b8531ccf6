//! Whole data nodes over real gRPC, with a metadata server made for the tests.

#[macro_use]
mod over;

mod appends;
mod cluster;
mod disks;
mod faults;
mod frames;
mod meta;
mod objects;
mod scrub;
mod seals;
mod spares;
mod surveys;
mod waits;
