/// How to make a cluster.
#[derive(Clone, Debug)]
pub struct Options {
    pub(crate) name: String,
    pub(crate) preload: bool,
    pub(crate) fsync: bool,
    pub(crate) conf: Vec<String>,
    pub(crate) keep: bool,
}

impl Options {
    /// `name` becomes part of the directory's name.
    pub fn new(name: &str) -> Options {
        Options {
            name: name.to_owned(),
            preload: true,
            fsync: false,
            conf: Vec::new(),
            keep: false,
        }
    }

    /// Whether the extension is in `shared_preload_libraries` (it is, unless told).
    pub fn preload(mut self, preload: bool) -> Options {
        self.preload = preload;
        self
    }

    /// Whether the server flushes what it writes (it does not, unless told).
    pub fn fsync(mut self, fsync: bool) -> Options {
        self.fsync = fsync;
        self
    }

    /// A line of postgresql.conf; later ones win.
    pub fn conf(mut self, line: &str) -> Options {
        self.conf.push(line.to_owned());
        self
    }

    /// The cluster keeps its name, outlives this process, and is replaced by the next of this name.
    pub fn keep(mut self, keep: bool) -> Options {
        self.keep = keep;
        self
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// Sessions are ended, everything is written down.
    Fast,
    /// As if it had crashed: recovery at the next start.
    Immediate,
}
