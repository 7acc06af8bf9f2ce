//! From start to exit code: telemetry, signals, and one place where a failure is told.

use std::process::ExitCode;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use crate::Failure;

/// Says whether the process was asked to stop. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Shutdown {
    asked: watch::Receiver<bool>,
    /// Another one whose ask counts as well.
    or: Option<watch::Receiver<bool>>,
}

/// Asks to stop.
#[derive(Clone, Debug)]
pub struct Stopper(watch::Sender<bool>);

impl Shutdown {
    /// A pair of one who asks and one who hears.
    #[must_use]
    pub fn new() -> (Stopper, Self) {
        let (sender, receiver) = watch::channel(false);
        (Stopper(sender), Self { asked: receiver, or: None })
    }

    /// One that hears of either of two asks; a third, of which the other one was told, does not count.
    #[must_use]
    pub fn or(&self, other: &Self) -> Self {
        Self { asked: self.asked.clone(), or: Some(other.asked.clone()) }
    }

    /// Whether it was asked.
    #[must_use]
    pub fn is_requested(&self) -> bool {
        *self.asked.borrow() || self.or.as_ref().is_some_and(|or| *or.borrow())
    }

    /// Waits until it is asked.
    pub async fn requested(&self) {
        // The asker gone is an ask as well.
        let asked = async |mut receiver: watch::Receiver<bool>| {
            let _ = receiver.wait_for(|asked| *asked).await;
        };
        match self.or.clone() {
            None => asked(self.asked.clone()).await,
            Some(or) => tokio::select! {
                () = asked(self.asked.clone()) => {}
                () = asked(or) => {}
            },
        }
    }
}

impl Stopper {
    /// Asks everybody to stop.
    pub fn stop(&self) {
        self.0.send_replace(true);
    }
}

/// Runs a service until it ends, fails or is asked to stop by SIGTERM or Ctrl-C. A second signal
/// ends the process at once.
pub fn main<F, Fut>(name: &'static str, run: F) -> ExitCode
where
    F: FnOnce(Shutdown) -> Fut,
    Fut: Future<Output = Result<(), Failure>>,
{
    log_to_stderr("info");
    match block_on(run) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(error = chain(error.as_ref()), "{name} ends");
            ExitCode::FAILURE
        }
    }
}

/// Runs something to its end, and asks it to stop on SIGTERM or Ctrl-C.
///
/// # Errors
///
/// Its own, and when there can be no runtime or no signals.
pub fn block_on<T, F, Fut>(run: F) -> Result<T, Failure>
where
    F: FnOnce(Shutdown) -> Fut,
    Fut: Future<Output = Result<T, Failure>>,
{
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let outcome = runtime.block_on(async {
        let (stopper, shutdown) = Shutdown::new();
        stop_on_signals(stopper)?;
        run(shutdown).await
    });
    runtime.shutdown_timeout(std::time::Duration::from_secs(1));
    outcome
}

/// Sends log lines to stderr; `MUSTER_LOG` says which, as `info` or `bus=debug,info`.
#[expect(clippy::disallowed_methods, reason = "the only setting that is read before all others")]
pub fn log_to_stderr(default: &str) {
    use std::io::IsTerminal as _;
    let wanted = std::env::var("MUSTER_LOG").unwrap_or_else(|_| default.to_owned());
    let filter = tracing_subscriber::EnvFilter::try_new(&wanted)
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new(default));
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .try_init();
}

/// Stops on the first SIGTERM or SIGINT, and exits on the second.
///
/// # Errors
///
/// When signals cannot be listened to.
#[expect(clippy::disallowed_methods, reason = "signals are listened to by a task of their own")]
pub fn stop_on_signals(stopper: Stopper) -> std::io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::spawn(async move {
        let mut asked = false;
        loop {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            if asked {
                std::process::exit(130);
            }
            asked = true;
            stopper.stop();
        }
    });
    Ok(())
}

/// Ends the process now, where nothing is left to do and nobody to hand an exit code to.
#[expect(clippy::disallowed_methods, reason = "this is where a process ends")]
pub fn leave(code: u8) -> ! {
    std::process::exit(code.into())
}

/// An error with everything that it comes from, each said once.
#[must_use]
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let more = error.to_string();
        if !text.contains(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        source = error.source();
    }
    text
}
