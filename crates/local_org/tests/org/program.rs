use crate::client::agent;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

pub(crate) fn start(arguments: &[&str]) -> (Child, String) {
    let mut program = Command::new(env!("CARGO_BIN_EXE_local-org"))
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the program starts");
    // Where it is, and where its event bus is: a line that nobody reads would end it.
    let stdout = program.stdout.take().expect("its output");
    let lines: Vec<String> =
        BufReader::new(stdout).lines().take(2).collect::<Result<_, _>>().expect("two lines");
    let [url, events] = lines.try_into().expect("two lines");
    assert!(events.starts_with("http://127.0.0.1:"), "{events}");
    (program, url)
}

#[test]
fn the_program_says_where_it_is_and_ends_with_its_input() {
    let (mut program, url) =
        start(&["--client-id", "i", "--client-secret", "s", "--until-stdin-closes"]);
    let form = "grant_type=client_credentials&client_id=i&client_secret=s";
    let reply = agent().post(format!("{url}/services/oauth2/token")).send(form).expect("an answer");
    assert_eq!(reply.status(), 200);
    drop(program.stdin.take());
    assert!(program.wait().expect("an end").success());
}

#[test]
fn the_program_ends_when_it_is_told_to() {
    let (mut program, _) = start(&[]);
    let kill = Command::new("kill").arg(program.id().to_string()).status().expect("a signal");
    assert!(kill.success());
    assert!(program.wait().expect("an end").success());
}

#[test]
fn wrong_arguments_are_refused() {
    for arguments in [&["--port", "many"][..], &["--port"], &["--sing"]] {
        let program = Command::new(env!("CARGO_BIN_EXE_local-org"))
            .args(arguments)
            .output()
            .expect("the program starts");
        assert!(!program.status.success(), "{arguments:?}");
    }
}
