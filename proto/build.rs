//! Compiles the .proto files with protox: no protoc is needed.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto");
    let files = [
        "common.proto",
        "meta.proto",
        "node.proto",
        "data.proto",
        "raft.proto",
        "members.proto",
        "echo.proto",
    ];
    let descriptors = protox::compile(files, ["proto"])?;
    tonic_prost_build::configure()
        .bytes(".cairn.v1")
        // Large and rare: without, every change that waits for its answer would have room for them.
        .boxed(".cairn.v1.MutateRequest.operation.mount_add")
        .boxed(".cairn.v1.MutateRequest.operation.mount_set")
        .compile_fds(descriptors)?;
    Ok(())
}
