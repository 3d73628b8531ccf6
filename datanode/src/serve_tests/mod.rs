//! Whole data nodes over real gRPC, with a metadata server made for the tests.

mod appends;
mod cluster;
mod faults;
mod meta;
mod scrub;
mod seals;
mod spares;
mod surveys;
mod waits;
