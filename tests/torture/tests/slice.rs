//! A slice of every scenario that has one, with real processes and, for power cuts, a real disk.

use std::process::{Command, Stdio};

#[test]
fn a_slice_of_every_scenario_holds() {
    let mut torture = Command::new(env!("CARGO_BIN_EXE_muster-torture"));
    let output = torture.args(["--slice", "--seed", "1"]).stdin(Stdio::null()).output();
    let output = output.expect("it starts");
    let [said, told] = [output.stdout, output.stderr].map(|said| tests::cluster::text(&said));
    assert!(output.status.success(), "{said}{told}");
    assert!(
        said.lines().count() >= 3 && said.lines().all(|line| line.contains(": held: ")),
        "{said}"
    );
}
