//! The ways to log in that `auth_type` names, and what each of them needs.

/// A way to log in to Salesforce.
pub(super) struct Flow {
    pub(super) kind: Kind,
    /// The values of `auth_type` that mean it; the first is its name.
    names: &'static [&'static str],
    /// The secrets without which it does not work, and others that it can use.
    pub(super) needs: &'static [&'static str],
    may: &'static [&'static str],
    /// Does it log in as the user that the option `username` names?
    pub(super) of_user: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    ClientCredentials,
    JwtBearer,
    RefreshToken,
    Password,
}

const FLOWS: [Flow; 4] = [
    Flow {
        kind: Kind::ClientCredentials,
        names: &["oauth2", "client_credentials"],
        needs: &["client_id", "client_secret"],
        may: &[],
        of_user: false,
    },
    Flow {
        kind: Kind::JwtBearer,
        names: &["jwt", "jwt_bearer"],
        needs: &["client_id", "private_key"],
        may: &[],
        of_user: true,
    },
    Flow {
        kind: Kind::RefreshToken,
        names: &["refresh_token"],
        needs: &["client_id", "refresh_token"],
        may: &["client_secret"],
        of_user: false,
    },
    Flow {
        kind: Kind::Password,
        names: &["password"],
        needs: &["client_id", "client_secret", "password"],
        may: &["security_token"],
        of_user: true,
    },
];

/// What is taken for a way to log in where none is known.
pub(super) const ANY: Flow = Flow {
    kind: Kind::ClientCredentials,
    names: &[""],
    needs: &["client_id", "client_secret"],
    may: &[],
    of_user: false,
};

/// All secrets that a mapping can hold, and whether a file may hold it instead.
pub(super) const SECRETS: [(&str, bool); 6] = [
    ("client_id", false),
    ("client_secret", true),
    ("private_key", true),
    // It may have to be replaced, and files are only read.
    ("refresh_token", false),
    ("password", true),
    ("security_token", false),
];

impl Flow {
    /// By `auth_type`; `None` where that means no way that is served.
    pub(super) fn named(auth_type: Option<&str>) -> Option<&'static Self> {
        let name = auth_type.unwrap_or(FLOWS[0].names[0]);
        FLOWS.iter().find(|flow| flow.names.contains(&name))
    }

    pub(super) fn name(&self) -> &'static str {
        self.names[0]
    }

    /// All secrets that it uses.
    pub(super) fn secrets(&self) -> impl Iterator<Item = &'static str> {
        self.needs.iter().chain(self.may).copied()
    }

    /// The names of all, for a hint.
    pub(super) fn all() -> String {
        FLOWS.map(|flow| flow.name()).join(", ")
    }
}

/// The secret that an option of a mapping belongs to: `client_secret` for `new_client_secret_file`.
pub(super) fn secret_of(option: &str) -> Option<&'static str> {
    let name = option.strip_prefix("new_").unwrap_or(option);
    SECRETS.iter().find_map(|&(secret, in_file)| {
        let fits = name == secret || (in_file && name.strip_suffix("_file") == Some(secret));
        fits.then_some(secret)
    })
}
