//! The users: sessions that write at random until they are told to stop.

use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use cluster::postgres::{self, Client, NoTls};

use super::random::Random;
use super::schema::{BULK, POISON};

/// What the writers of a stretch have in common.
pub(crate) struct Stretch<'a> {
    pub(crate) sockets: &'a Path,
    pub(crate) database: &'a str,
    /// How many keys of the two-way pair are fought over.
    pub(crate) keys: u64,
    pub(crate) stop: &'a AtomicBool,
    /// Errors that no user should have got.
    pub(crate) complaints: &'a Mutex<Vec<String>>,
}

pub(crate) fn connect(
    sockets: &Path,
    database: &str,
    name: &str,
) -> Result<Client, postgres::Error> {
    postgres::Config::new()
        .host_path(sockets)
        .user("postgres")
        .dbname(database)
        .application_name(name)
        .connect(NoTls)
}

/// Writes until told to stop. `number` keeps the values of each writer and stretch apart.
pub(crate) fn write(stretch: &Stretch<'_>, seed: u64, number: u64) {
    let mut random = Random::new(seed ^ number.wrapping_mul(0x5851_F42D_4C95_7F2D));
    let mut values = Values { prefix: number, next: 0, keys: stretch.keys };
    while !stretch.stop.load(Ordering::Acquire) {
        let Ok(mut client) = connect(stretch.sockets, stretch.database, "writer") else {
            std::thread::sleep(Duration::from_millis(20));
            continue;
        };
        let setup =
            client.batch_execute("SET lock_timeout = '400ms'; SET statement_timeout = '5s'");
        if setup.is_err() {
            continue;
        }
        while !stretch.stop.load(Ordering::Acquire) {
            let result = transaction(&mut client, &mut random, &mut values);
            if let Err(error) = result {
                match complaint(&error) {
                    Trouble::Connection => break,
                    Trouble::Mine => {}
                    Trouble::Theirs(text) => {
                        if let Ok(mut complaints) = stretch.complaints.lock() {
                            complaints.push(text);
                        }
                    }
                }
                if client.batch_execute("ROLLBACK").is_err() {
                    break;
                }
            }
            std::thread::sleep(Duration::from_micros(random.below(4000)));
        }
    }
}

/// C6: users may be in each other's way; where a worker was in theirs, it was for the worker to go.
pub(crate) fn serious<'a>(complaints: &'a [String], workers: &[i32]) -> Vec<&'a String> {
    complaints
        .iter()
        .filter(|text| {
            !text.starts_with("deadlock")
                || workers.iter().any(|pid| text.contains(&format!("rocess {pid} ")))
        })
        .collect()
}

enum Trouble {
    Connection,
    /// Part of the workload: a key that is taken, a lock that somebody holds.
    Mine,
    /// Nothing a user should see.
    Theirs(String),
}

fn complaint(error: &postgres::Error) -> Trouble {
    let Some(server) = error.as_db_error() else { return Trouble::Connection };
    match server.code().code() {
        "57P01" | "57P02" | "57P03" | "25P02" => Trouble::Connection,
        "40001" | "55P03" | "23505" | "23503" => Trouble::Mine,
        "40P01" => Trouble::Theirs(format!("deadlock: {}", server.detail().unwrap_or_default())),
        code => Trouble::Theirs(format!(
            "{code} {} {}",
            server.message(),
            server.detail().unwrap_or_default()
        )),
    }
}

/// Values that nobody else writes.
struct Values {
    prefix: u64,
    next: u64,
    keys: u64,
}

impl Values {
    fn fresh(&mut self) -> String {
        self.next += 1;
        format!("v{}-{}", self.prefix, self.next)
    }
}

fn transaction(
    client: &mut Client,
    random: &mut Random,
    values: &mut Values,
) -> Result<(), postgres::Error> {
    match random.below(100) {
        0..60 => client.batch_execute(&statement(random, values)),
        60..75 => {
            let mut text = String::from("BEGIN;");
            for _ in 0..random.below(4) + 1 {
                text += &statement(random, values);
            }
            text += if random.percent(85) { "COMMIT" } else { "ROLLBACK" };
            client.batch_execute(&text)
        }
        75..85 => {
            // What a savepoint takes back never was; what is around it was.
            let text = format!(
                "BEGIN; {} SAVEPOINT s; {} {} ROLLBACK TO s; {} RELEASE s; {} COMMIT",
                statement(random, values),
                statement(random, values),
                statement(random, values),
                statement(random, values),
                statement(random, values),
            );
            client.batch_execute(&text)
        }
        85..90 => {
            let name = values.fresh();
            client.batch_execute(&format!(
                "BEGIN; {} {} PREPARE TRANSACTION '{name}'",
                statement(random, values),
                statement(random, values),
            ))?;
            std::thread::sleep(Duration::from_millis(random.below(60)));
            let end = if random.percent(80) { "COMMIT" } else { "ROLLBACK" };
            client.batch_execute(&format!("{end} PREPARED '{name}'"))
        }
        90..96 => {
            let side = *random.one_of(&["shop", "peer"]);
            let column = *random.one_of(&["f", "g", "h"]);
            let first = BULK.start + random.below(100);
            client.batch_execute(&format!(
                "UPDATE {side}.two SET {column} = '{}-' || id WHERE id BETWEEN {first} AND {}",
                values.fresh(),
                first + random.below(200)
            ))
        }
        96..99 => {
            // A transaction that takes its time between two rows.
            client.batch_execute(&format!("BEGIN; {}", statement(random, values)))?;
            std::thread::sleep(Duration::from_millis(random.below(80)));
            client.batch_execute(&format!("{} COMMIT", statement(random, values)))
        }
        _ => {
            // P13. A writer that waits for the lock must not make everybody wait.
            let table =
                *random.one_of(&["shop.one", "peer.one", "shop.two", "peer.two", "shop.parts"]);
            let column = random.below(8);
            client.batch_execute(&format!(
                "SET lock_timeout = '20ms'; ALTER TABLE {table} ADD COLUMN IF NOT EXISTS more_{column} int DEFAULT {column};
                 SET lock_timeout = '400ms'"
            ))?;
            client.batch_execute("SET lock_timeout = '400ms'")
        }
    }
}

/// One statement on one of the tables, ended by a semicolon.
fn statement(random: &mut Random, values: &mut Values) -> String {
    let what = random.below(100);
    match random.below(100) {
        0..15 => one(random, values, what),
        15..55 => two(random, values, what),
        55..75 => mapped(random, values, what),
        75..85 => parts(random, values, what),
        _ => family(random, values, what),
    }
}

fn one(random: &mut Random, values: &mut Values, what: u64) -> String {
    let id = random.below(40) + 1;
    match what {
        0..30 => format!(
            "INSERT INTO shop.one (id, f, g) VALUES ({id}, '{}', '{}') ON CONFLICT (id) DO UPDATE SET f = EXCLUDED.f;",
            values.fresh(),
            values.fresh()
        ),
        30..75 => format!("UPDATE shop.one SET f = '{}' WHERE id = {id};", values.fresh()),
        // P12: one row that the peer refuses.
        75..78 => format!("UPDATE shop.one SET g = '{POISON}' WHERE id = 7;"),
        78..92 => format!("UPDATE shop.one SET g = '{}' WHERE id = {id};", values.fresh()),
        _ => format!("DELETE FROM shop.one WHERE id = {id};"),
    }
}

fn two(random: &mut Random, values: &mut Values, what: u64) -> String {
    let side = *random.one_of(&["shop", "peer"]);
    let column = *random.one_of(&["f", "g", "h"]);
    let id = random.below(values.keys) + 1;
    match what {
        0..25 => format!(
            "INSERT INTO {side}.two (id, f, g, h) VALUES ({id}, '{}', '{}', '{}') ON CONFLICT (id) DO NOTHING;",
            values.fresh(),
            values.fresh(),
            values.fresh()
        ),
        25..75 => format!("UPDATE {side}.two SET {column} = '{}' WHERE id = {id};", values.fresh()),
        75..80 => format!(
            "UPDATE {side}.two SET f = '{0}-' || id, {column} = '{0}-' || id WHERE id BETWEEN {id} AND {1};",
            values.fresh(),
            id + random.below(5)
        )
        .replacen("f = ", if column == "f" { "g = " } else { "f = " }, 1),
        80..86 => {
            format!("UPDATE {side}.two SET id = {} WHERE id = {id};", random.below(values.keys) + 1)
        }
        86..94 => format!("DELETE FROM {side}.two WHERE id = {id};"),
        // Deleted and back again in one statement's time.
        _ => format!(
            "DELETE FROM {side}.two WHERE id = {id}; INSERT INTO {side}.two (id, f) VALUES ({id}, '{}') ON CONFLICT (id) DO NOTHING;",
            values.fresh()
        ),
    }
}

fn mapped(random: &mut Random, values: &mut Values, what: u64) -> String {
    let pick = random.below(30);
    match what {
        0..10 => format!(
            "INSERT INTO shop.mapped (f, g, h) VALUES ('{}', '{}', '{}');",
            values.fresh(),
            values.fresh(),
            values.fresh()
        ),
        10..20 => format!(
            "INSERT INTO peer.mapped (label, mail, tel) VALUES ('{}', '{}', '+{}');",
            values.fresh(),
            values.fresh(),
            values.fresh()
        ),
        20..55 => format!(
            "UPDATE shop.mapped SET {} = '{}' WHERE id = (SELECT id FROM shop.mapped ORDER BY id OFFSET {pick} LIMIT 1);",
            random.one_of(&["f", "g", "h"]),
            values.fresh()
        ),
        55..90 => {
            let (column, sign) = *random.one_of(&[("label", ""), ("mail", ""), ("tel", "+")]);
            format!(
                "UPDATE peer.mapped SET {column} = '{sign}{}' WHERE id = (SELECT id FROM peer.mapped ORDER BY id OFFSET {pick} LIMIT 1);",
                values.fresh()
            )
        }
        _ => {
            let side = *random.one_of(&["shop", "peer"]);
            format!(
                "DELETE FROM {side}.mapped WHERE id = (SELECT id FROM {side}.mapped ORDER BY id OFFSET {pick} LIMIT 1);"
            )
        }
    }
}

fn parts(random: &mut Random, values: &mut Values, what: u64) -> String {
    let id = random.below(30) + 1;
    let region = *random.one_of(&["n", "s"]);
    match what {
        0..40 => format!(
            "INSERT INTO shop.parts VALUES ('{region}', {id}, '{}') ON CONFLICT DO NOTHING;",
            values.fresh()
        ),
        40..70 => format!(
            "UPDATE shop.parts SET f = '{}' WHERE region = '{region}' AND id = {id};",
            values.fresh()
        ),
        // Across partitions: a delete in one, an insert in the other.
        70..90 => format!(
            "UPDATE shop.parts SET region = CASE region WHEN 'n' THEN 's' ELSE 'n' END WHERE region = '{region}' AND id = {id};"
        ),
        _ => format!("DELETE FROM shop.parts WHERE region = '{region}' AND id = {id};"),
    }
}

fn family(random: &mut Random, values: &mut Values, what: u64) -> String {
    let (parent, child) = (random.below(20) + 1, random.below(60) + 1);
    match what {
        0..20 => format!(
            "INSERT INTO shop.parent VALUES ({parent}, '{}') ON CONFLICT DO NOTHING;",
            values.fresh()
        ),
        20..50 => format!(
            "INSERT INTO shop.child SELECT {child}, id, '{}' FROM shop.parent WHERE id = {parent} ON CONFLICT DO NOTHING;",
            values.fresh()
        ),
        50..60 => format!(
            "INSERT INTO shop.parent VALUES ({0}, '{1}') ON CONFLICT DO NOTHING; INSERT INTO shop.child VALUES ({child}, {0}, '{2}') ON CONFLICT DO NOTHING;",
            parent,
            values.fresh(),
            values.fresh()
        ),
        60..75 => format!("UPDATE shop.child SET f = '{}' WHERE id = {child};", values.fresh()),
        75..80 => format!("UPDATE shop.parent SET f = '{}' WHERE id = {parent};", values.fresh()),
        80..92 => format!("DELETE FROM shop.child WHERE id = {child};"),
        _ => format!(
            "DELETE FROM shop.child WHERE parent = {parent}; DELETE FROM shop.parent WHERE id = {parent};"
        ),
    }
}
