//! Generates the stubs from the contract. It needs protoc, on PATH or named by PROTOC.

use std::{fs, io, path::PathBuf};

fn main() -> io::Result<()> {
    let protos = PathBuf::from("../../protos");
    let mut files = vec![protos.join("google/rpc/status.proto")];
    for entry in fs::read_dir(protos.join("sessiond/v1"))? {
        files.push(entry?.path());
    }
    files.sort();
    println!("cargo:rerun-if-changed=../../protos");
    tonic_prost_build::configure()
        .build_server(false)
        .include_file("stubs.rs")
        .compile_protos(&files, &[protos])
}
