//! The image: the testkit's back end and the shared libraries it is linked to, nothing else.

use std::path::{Path, PathBuf};

use tokio::process::Command;

/// Name of the image.
pub(super) const NAME: &str = "testkit-backend";
/// Where the program is in it.
pub(super) const PROGRAM: &str = "/testkit-backend";

/// Writes the image's file system as a tar archive.
pub(super) async fn build(directory: &Path, program: &Path) -> PathBuf {
    let archive = directory.join("image.tar");
    let libraries = libraries(program).await;
    let status = Command::new("tar")
        .args(["--create", "--dereference", "--absolute-names", "--file"])
        .arg(&archive)
        .arg(format!("--transform=s|^{}$|{PROGRAM}|", program.display()))
        .arg(program)
        .args(libraries)
        .status()
        .await
        .unwrap();
    assert!(status.success(), "tar: {status}");
    archive
}

/// The absolute paths that `ldd` names, the loader included.
async fn libraries(program: &Path) -> Vec<String> {
    let output = Command::new("ldd").arg(program).output().await.unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let words = text.split_whitespace().filter(|word| word.starts_with('/'));
    words.map(str::to_owned).collect()
}
