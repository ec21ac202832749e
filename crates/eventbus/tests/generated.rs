//! The code in `src` is what the definition gives.

use std::path::Path;

#[test]
fn the_code_is_what_the_definition_gives() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let made = Path::new(env!("CARGO_TARGET_TMPDIR")).join("eventbus");
    std::fs::create_dir_all(&made).expect("a directory");
    let definition =
        protox::compile(["pubsub_api.proto"], [root.join("proto")]).expect("a definition");
    tonic_prost_build::configure()
        .out_dir(&made)
        .build_transport(false)
        .compile_fds(definition)
        .expect("code");
    let new = std::fs::read_to_string(made.join("eventbus.v1.rs")).expect("the code");
    let kept = root.join("src/generated.rs");
    if std::env::var_os("SYNC_EXT_GENERATE").is_some() {
        std::fs::write(&kept, &new).expect("written");
    }
    let kept = std::fs::read_to_string(kept).expect("the code that is kept");
    assert!(kept == new, "src/generated.rs is out of date: run this test with SYNC_EXT_GENERATE=1");
}
