//! Work that others should not have to wait for: on threads that the system gives less time to, as
//! soon as there is somebody who needs it.

use std::thread::JoinHandle;

/// How much others go before, by the system's own measure: 0 is everybody, 19 comes last.
const NICE: i32 = 10;

/// Runs something on such a thread, and waits for it. The threads that it makes are such as well, for
/// as long as they live.
///
/// # Panics
///
/// As what it runs.
pub fn behind<T: Send>(run: impl FnOnce() -> T + Send) -> T {
    let done = std::thread::scope(|scope| scope.spawn(|| quietly(run)).join());
    done.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// Runs something on such a thread, beside everything else.
///
/// # Errors
///
/// When the system makes no thread.
pub fn start(name: &str, run: impl FnOnce() + Send + 'static) -> std::io::Result<JoinHandle<()>> {
    std::thread::Builder::new().name(name.to_owned()).spawn(|| quietly(run))
}

fn quietly<T>(run: impl FnOnce() -> T) -> T {
    // Of this thread only. Where it may not be, it is done as everything else is.
    if rustix::process::getpriority_process(None).is_ok_and(|nice| nice < NICE) {
        let _ = rustix::process::setpriority_process(None, NICE);
    }
    run()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn priority() -> i32 {
        rustix::process::getpriority_process(None).expect("it is told")
    }

    #[test]
    fn what_is_started_there_gives_way_and_nothing_else_does() {
        let before = priority();
        let of_a_child = || std::thread::spawn(priority).join().expect("it ends");
        assert_eq!(behind(of_a_child), before.max(NICE));
        let (told, heard) = std::sync::mpsc::channel();
        let started = start("test", move || told.send(priority()).expect("it is heard"));
        assert_eq!(heard.recv(), Ok(before.max(NICE)));
        started.expect("there is a thread").join().expect("it ends");
        assert_eq!(priority(), before);
    }

    #[test]
    #[should_panic(expected = "as it is")]
    fn a_panic_comes_through_as_it_is() {
        behind(|| panic!("as it is"));
    }
}
