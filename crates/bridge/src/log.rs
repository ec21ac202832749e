use std::cell::RefCell;
use std::panic::{self, PanicHookInfo};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Once};
use std::thread;

/// Lines that wait for the main thread at most; those above are counted and forgotten.
const LINES: usize = 64;

/// Where the threads leave what the main thread shall log.
#[derive(Clone)]
pub(crate) struct Pen {
    lines: SyncSender<String>,
    missed: Arc<AtomicU64>,
}

/// The main thread's end.
pub(crate) struct Log {
    lines: Receiver<String>,
    missed: Arc<AtomicU64>,
}

thread_local! {
    static PEN: RefCell<Option<Pen>> = const { RefCell::new(None) };
}

pub(crate) fn new() -> (Pen, Log) {
    let (sender, receiver) = sync_channel(LINES);
    let missed = Arc::new(AtomicU64::new(0));
    (Pen { lines: sender, missed: Arc::clone(&missed) }, Log { lines: receiver, missed })
}

impl Log {
    pub(crate) fn take(&self) -> Vec<String> {
        let mut lines: Vec<String> = self.lines.try_iter().take(LINES).collect();
        match self.missed.swap(0, Ordering::Relaxed) {
            0 => (),
            n => lines.push(format!("{n} more messages of network threads were not kept")),
        }
        lines
    }
}

impl Pen {
    fn write(&self, line: String) {
        if self.lines.try_send(line).is_err() {
            self.missed.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// From here on the calling thread's panics are written with this pen and nowhere else.
    pub(crate) fn take_over(self) {
        PEN.with_borrow_mut(|pen| *pen = Some(self));
    }
}

/// Puts our panic hook before the one that is there, once in a process.
pub(crate) fn hook() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            // A panic in here would end the process: whatever is not as expected goes the usual way.
            let ours = PEN.try_with(|pen| {
                let Ok(pen) = pen.try_borrow() else { return false };
                let Some(pen) = pen.as_ref() else { return false };
                pen.write(line(info));
                true
            });
            if !ours.unwrap_or(false) {
                before(info);
            }
        }));
    });
}

/// What may be told of a panic. A message with anything filled in is not told: it may quote a request.
fn line(info: &PanicHookInfo<'_>) -> String {
    let thread = thread::current();
    let name = thread.name().unwrap_or("without name");
    let place = info.location().map_or_else(|| "an unknown place".to_owned(), ToString::to_string);
    match info.payload().downcast_ref::<&'static str>() {
        Some(message) => format!("network thread \"{name}\" panicked at {place}: {message}"),
        None => format!("network thread \"{name}\" panicked at {place}"),
    }
}
