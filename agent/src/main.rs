//! The agent of one gateway.
fn main() {}
