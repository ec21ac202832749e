//! The client against a server that misbehaves as a test tells it to: what no well-behaved org shows.

mod scripted;

use connector::{Column, Connector, FaultKind, Kind, Mark, Write, WriteBatch};
use scripted::{ORG, Reply, SECRET, Server, TOKEN, USER, login};
use serde_json::{Value, json};

const ONE: &str = "001000000000001AAA";

fn name() -> Vec<Column> {
    vec![Column { name: "Name".into(), kind: Kind::Text, length: 255, ..Column::default() }]
}

fn dead_session() -> Reply {
    Reply::Json(
        401,
        r#"[{"message":"Session expired or invalid","errorCode":"INVALID_SESSION_ID"}]"#.into(),
    )
}

fn error(status: u16, code: &str, message: &str) -> Reply {
    Reply::Json(status, json!([{"errorCode": code, "message": message}]).to_string())
}

fn row(id: &str) -> Value {
    json!({"attributes": {"type": "Account"}, "Id": id, "SystemModstamp": "2026-05-01T07:25:37.000+0000", "Name": "a"})
}

fn updates(count: usize, read_before: bool) -> WriteBatch {
    let id = |n| format!("001{n:012}AAA");
    let update = |n| Write::Update { id: id(n), fields: vec![(0, Some("b".into()))] };
    WriteBatch {
        object: "Account".into(),
        columns: name(),
        read_before,
        writes: (0..count).map(update).collect(),
    }
}

fn creates(count: usize) -> WriteBatch {
    let create = |_| Write::Create { identity: None, fields: vec![(0, Some("b".into()))] };
    WriteBatch {
        object: "Account".into(),
        columns: name(),
        read_before: false,
        writes: (0..count).map(create).collect(),
    }
}

#[tokio::test]
async fn nothing_is_sent_before_something_is_asked() {
    let server = Server::with_login(|_, _| Reply::Cut).await;
    let _ = server.client();
    assert!(server.asked().is_empty());
}

#[tokio::test]
async fn headers_say_who_writes_and_keep_assignment_rules_out() {
    let server = Server::with_login(|_, _| Reply::Json(200, r#"{"sobjects":[]}"#.into())).await;
    server.client().objects().await.expect("objects");
    let asked = server.asked();
    assert_eq!(asked[0].header("content-type"), Some("application/x-www-form-urlencoded"));
    assert!(asked[0].body.contains("grant_type=client_credentials&client_id=app&client_secret="));
    assert_eq!(asked[1].path, "/services/data/v62.0/sobjects");
    assert_eq!(asked[1].header("authorization"), Some(format!("Bearer {TOKEN}").as_str()));
    assert_eq!(asked[1].header("sforce-call-options"), Some("client=sync_ext"));
    assert_eq!(asked[1].header("sforce-auto-assign"), Some("FALSE"));
    assert_eq!(asked[1].header("sforce-query-options"), Some("batchSize=2000"));
    assert_eq!(asked[1].header("accept-encoding"), Some("gzip"));
}

#[tokio::test]
async fn a_dead_session_is_renewed_once_for_all_who_meet_it() {
    let server = Server::start(|_, asked, port| match asked.header("authorization") {
        None => login(port, if asked.body.is_empty() { "" } else { "fresh" }),
        Some("Bearer fresh") => Reply::Json(200, r#"{"sobjects":[]}"#.into()),
        Some(_) => dead_session(),
    })
    .await;
    // The first login yields a token that dies at once.
    let first = std::sync::atomic::AtomicBool::new(true);
    let dying = Server::start(move |_, asked, port| match asked.header("authorization") {
        None if first.swap(false, std::sync::atomic::Ordering::SeqCst) => login(port, "stale"),
        None => login(port, "fresh"),
        Some("Bearer fresh") => Reply::Json(200, r#"{"sobjects":[]}"#.into()),
        Some(_) => dead_session(),
    })
    .await;
    assert!(server.client().objects().await.is_ok());
    let client = dying.client();
    let (a, b, c, d) =
        tokio::join!(client.objects(), client.objects(), client.objects(), client.objects());
    for answer in [a, b, c, d] {
        assert!(answer.is_ok(), "{answer:?}");
    }
    assert_eq!(dying.logins(), 2);
    let sent = dying.asked().iter().filter(|asked| !asked.is_login()).count();
    assert_eq!(client.calls(), sent as u64);
}

#[tokio::test]
async fn a_session_that_is_refused_again_is_a_matter_of_credentials() {
    let server = Server::with_login(|_, _| dead_session()).await;
    let fault = server.client().objects().await.expect_err("a fault");
    assert_eq!((fault.kind, fault.code.as_str()), (FaultKind::Credentials, "INVALID_SESSION_ID"));
    assert_eq!((server.logins(), server.asked().len()), (2, 4));
}

#[tokio::test]
async fn a_scope_that_is_missing_is_not_healed_by_a_login() {
    let server = Server::with_login(|_, _| {
        error(401, "INVALID_SESSION_ID", "This session is not valid for use with the REST API")
    })
    .await;
    let fault = server.client().objects().await.expect_err("a fault");
    assert_eq!((fault.kind, server.logins()), (FaultKind::Configuration, 1));
}

#[tokio::test]
async fn logins_that_are_refused_are_sorted_and_shared() {
    let cases = [
        ("invalid_client", "invalid client credentials", FaultKind::Credentials),
        ("invalid_grant", "request not supported on this domain", FaultKind::Configuration),
        ("rate_limit_exceeded", "", FaultKind::Transient),
        ("something_new", "", FaultKind::Credentials),
    ];
    for (code, message, kind) in cases {
        let server = Server::start(move |_, _, _| {
            Reply::Json(400, json!({"error": code, "error_description": message}).to_string())
        })
        .await;
        let client = server.client();
        let (a, b) = tokio::join!(client.objects(), client.objects());
        for fault in [a.expect_err("a fault"), b.expect_err("a fault")] {
            assert_eq!((fault.code.as_str(), fault.kind), (code, kind));
        }
        assert_eq!(server.logins(), 1);
        assert!(client.objects().await.is_err());
        assert_eq!((server.logins(), client.calls()), (2, 0));
    }
}

#[tokio::test]
async fn an_instance_elsewhere_is_not_followed() {
    let server = Server::start(|_, _, _| {
        let body =
            json!({"access_token": TOKEN, "instance_url": "http://169.254.169.254", "id": ""});
        Reply::Json(200, body.to_string())
    })
    .await;
    let fault = server.client().objects().await.expect_err("a fault");
    assert_eq!((fault.code.as_str(), fault.kind), ("HOST_NOT_ALLOWED", FaultKind::Configuration));
}

#[tokio::test]
async fn no_secret_is_in_any_fault_even_where_the_other_side_quotes_it() {
    for status in [400, 401, 403, 404, 500, 503] {
        let server = Server::start(move |_, asked, port| {
            let all = format!("{:?} {SECRET} {TOKEN}", asked);
            if asked.is_login() && status != 400 {
                return login(port, TOKEN);
            }
            Reply::With(
                status,
                vec![("x-sfdc-request-id", format!("id-{TOKEN}"))],
                json!([{"errorCode": format!("E_{TOKEN}"), "message": all, "fields": [TOKEN]}])
                    .to_string(),
            )
        })
        .await;
        let client = server.client();
        let mut texts = Vec::new();
        texts.push(format!("{:?}", client.objects().await));
        texts.push(format!("{:?}", client.check().await));
        texts.push(format!("{:?}", client.write(&updates(3, true)).await));
        texts.push(format!("{:?}", client.write(&creates(1)).await));
        for text in texts {
            assert!(!text.contains(SECRET), "{status}: {text}");
            assert!(status == 400 || !text.contains(TOKEN), "{status}: {text}");
        }
    }
    let rows = Server::with_login(|_, _| {
        Reply::Json(200, json!([{"success": false, "errors": [{"statusCode": "X", "message": format!("{SECRET}{TOKEN}")}]}]).to_string())
    })
    .await;
    let text = format!("{:?}", rows.client().write(&creates(1)).await.expect("outcomes"));
    assert!(text.contains("***") && !text.contains(SECRET) && !text.contains(TOKEN), "{text}");
}

#[tokio::test]
async fn check_tells_who_we_are_and_what_time_it_is_there() {
    let server = Server::with_login(|_, asked| match asked.path.as_str() {
        "/services/oauth2/userinfo" => Reply::With(
            200,
            vec![("date", "Thu, 01 Jan 2099 00:00:00 GMT".into())],
            json!({"user_id": USER, "organization_id": ORG, "preferred_username": "a@b.c"})
                .to_string(),
        ),
        _ => Reply::With(
            200,
            vec![(
                "sforce-limit-info",
                "api-usage=18/15000; per-app-api-usage=17/250(appName=x)".into(),
            )],
            json!({"DailyApiRequests": {"Max": 15000, "Remaining": 14000}}).to_string(),
        ),
    })
    .await;
    let client = server.client();
    let account = client.check().await.expect("an account");
    assert_eq!(
        (account.id.as_str(), account.user.as_str(), account.user_id.as_str()),
        (ORG, "a@b.c", USER)
    );
    assert!(account.clock_offset_ms.expect("an offset") > 1_000_000_000);
    let usage = account.usage.expect("the usage");
    assert_eq!((usage.used, usage.allowed), (1000, 15_000));
    assert_eq!(client.calls(), 1, "neither the login nor the identity count");
}

#[tokio::test]
async fn an_answer_tells_how_much_is_used() {
    let server = Server::with_login(|_, _| {
        Reply::With(
            200,
            vec![("sforce-limit-info", "api-usage=18/15000".into())],
            r#"{"sobjects":[]}"#.into(),
        )
    })
    .await;
    let client = server.client();
    assert!(client.usage().is_none());
    client.objects().await.expect("objects");
    assert_eq!(client.usage().map(|usage| (usage.used, usage.allowed)), Some((18, 15_000)));
}

#[tokio::test]
async fn the_next_page_is_a_path_of_the_org_or_nothing() {
    for url in [
        "https://evil.example.com/x",
        "//evil.example.com/x",
        "@evil.example.com/",
        "/services/../x",
        "/services/x#y",
        "",
    ] {
        let server = Server::with_login(move |_, _| {
            let body = json!({"totalSize": 2, "done": false, "nextRecordsUrl": url, "records": []});
            Reply::Json(200, body.to_string())
        })
        .await;
        let fault = server.client().list("Account", &name(), None).await.expect_err(url);
        assert_eq!((fault.code.as_str(), server.asked().len()), ("UNEXPECTED_ANSWER", 2), "{url}");
    }
}

#[tokio::test]
async fn pages_that_come_in_pieces_are_one_page() {
    let server = Server::with_login(|number, asked| {
        let page = match number {
            0 => json!({"totalSize": 2, "done": false, "nextRecordsUrl": "/services/data/v62.0/query/01g-1", "records": [row(ONE)]}),
            _ => json!({"totalSize": 2, "done": true, "records": [row("001000000000002AAA")]}),
        };
        assert!(number == 0 || asked.path == "/services/data/v62.0/query/01g-1");
        Reply::Json(200, page.to_string())
    })
    .await;
    let page = server.client().list("Account", &name(), Some(ONE)).await.expect("a page");
    assert_eq!((page.records.len(), page.more), (2, false));
    assert_eq!(page.records[0].version, "2026-05-01T07:25:37.000Z");
    let path = &server.asked()[1].path;
    assert!(
        path.contains("WHERE+Id+%3E+%27001000000000001AAA%27+ORDER+BY+Id+LIMIT+2000"),
        "{path}"
    );
}

#[tokio::test]
async fn the_changes_of_a_moment_are_asked_for_with_it_and_after_its_last_id() {
    let server = Server::with_login(|_, _| {
        Reply::Json(200, json!({"done": true, "records": []}).to_string())
    })
    .await;
    let client = server.client();
    for id in ["", ONE] {
        let mark = Mark { at: "2026-05-01T07:25:37.000Z".into(), id: id.into() };
        client.changes("Account", &name(), &mark).await.expect("a page");
    }
    let asked = server.asked();
    let query = |n: usize| {
        asked[n]
            .path
            .replace('+', " ")
            .replace("%3A", ":")
            .replace("%3E", ">")
            .replace("%3D", "=")
            .replace("%27", "'")
            .replace("%28", "(")
            .replace("%29", ")")
            .replace("%2C", ",")
    };
    let head = "/services/data/v62.0/queryAll?q=SELECT Id,SystemModstamp,IsDeleted,Name FROM Account WHERE SystemModstamp";
    let tail = " ORDER BY SystemModstamp,Id LIMIT 2000";
    let at = "2026-05-01T07:25:37.000Z";
    assert_eq!(query(1), format!("{head} >= {at}{tail}"));
    assert_eq!(
        query(2),
        format!("{head} > {at} OR (SystemModstamp = {at} AND Id > '{ONE}'){tail}")
    );
}

#[tokio::test]
async fn a_long_list_of_fields_is_fetched_by_id() {
    let columns: Vec<Column> = (0..700)
        .map(|n| Column {
            name: format!("A_Field_With_A_Long_Name_{n}__c"),
            kind: Kind::Text,
            ..Column::default()
        })
        .collect();
    let server = Server::with_login(|_, asked| {
        if asked.method == "GET" {
            let gone = "001000000000002AAA";
            return Reply::Json(
                200,
                json!({"done": true, "records": [row(ONE), row(gone)]}).to_string(),
            );
        }
        let mut newer = row(ONE);
        newer["SystemModstamp"] = json!("2026-05-01T09:00:00.000+0000");
        for n in 0..700 {
            newer[format!("A_Field_With_A_Long_Name_{n}__c")] = json!((n == 3).then_some("x"));
        }
        Reply::Json(200, json!([newer, null]).to_string())
    })
    .await;
    let page = server.client().list("Account", &columns, None).await.expect("a page");
    assert_eq!(page.records.len(), 1, "one went away in between");
    assert_eq!(page.records[0].values[3].as_deref(), Some("x"));
    assert_eq!(
        page.records[0].version, "2026-05-01T07:25:37.000Z",
        "that of the list, which orders it"
    );
    assert!(server.asked().iter().all(|asked| asked.path.len() < 14_000));
}

#[tokio::test]
async fn values_that_are_looked_for_go_in_as_many_queries_as_urls_hold() {
    let server = Server::with_login(|_, _| {
        Reply::Json(200, json!({"done": true, "records": []}).to_string())
    })
    .await;
    let values: Vec<String> =
        (0..1000).map(|n| format!("a value that is longer than most, ü {n}")).collect();
    server.client().find("Account", &name(), "Ext__c", &values).await.expect("records");
    let asked = server.asked();
    let paths: Vec<&str> = asked[1..].iter().map(|asked| asked.path.as_str()).collect();
    assert!(paths.iter().all(|path| path.len() <= 14_000));
    assert!(paths.len() < 8, "{}", paths.len());
    let found: usize = paths.iter().map(|path| path.matches("a+value").count()).sum();
    assert_eq!(found, 1000);
    let none = server.client();
    assert_eq!(none.find("Account", &name(), "Ext__c", &[]).await, Ok(vec![]));
    assert_eq!(none.calls(), 0);
}

#[tokio::test]
async fn a_read_that_is_cut_off_can_be_repeated() {
    for cut in [
        || Reply::Cut,
        || Reply::Silence,
        || Reply::Html(503, "<html>".into()),
        || Reply::Html(200, "<html>".into()),
    ] {
        let server = Server::with_login(move |_, _| cut()).await;
        let fault = server.client().list("Account", &name(), None).await.expect_err("a fault");
        assert_eq!(fault.kind, FaultKind::Transient, "{fault:?}");
    }
}

#[tokio::test]
async fn what_is_no_id_is_no_record_and_is_not_asked_for() {
    let server = Server::with_login(|_, asked| {
        assert!(!asked.body.contains("nonsense"));
        Reply::Json(200, json!([row(ONE)]).to_string())
    })
    .await;
    let client = server.client();
    let ids = ["nonsense".to_owned(), ONE.to_owned(), String::new()];
    let found = client.fetch("Account", &name(), &ids).await.expect("records");
    assert_eq!(found.iter().map(Option::is_some).collect::<Vec<_>>(), [false, true, false]);
    assert_eq!(client.fetch("Account", &name(), &ids[..1]).await, Ok(vec![None]));
    assert_eq!(client.calls(), 1);
}

#[tokio::test]
async fn names_that_are_none_never_reach_the_org() {
    let server = Server::with_login(|_, _| Reply::Cut).await;
    let client = server.client();
    for name in ["Account WHERE", "a/../b", ""] {
        assert!(client.describe(name, &[]).await.is_err());
        let columns = vec![Column { name: name.into(), kind: Kind::Text, ..Column::default() }];
        assert!(client.list("Account", &columns, None).await.is_err());
        assert!(client.list("Account", &[], Some("x' OR Id != '")).await.is_err());
        assert!(client.find("Account", &[], name, &["x".into()]).await.is_err());
    }
    assert!(server.asked().is_empty());
}

/// Records that an answer leaves out would be taken for deleted.
#[tokio::test]
async fn a_query_that_is_not_told_to_its_end_is_a_fault() {
    let next = "/services/data/v62.0/query/01g-1";
    let columns = [
        name(),
        vec![Column {
            name: "Parent.Key__c".into(),
            lookup: Some("ParentId".into()),
            ..Column::default()
        }],
    ]
    .concat();
    let row = |id: &str| {
        let mut row = row(id);
        row["Parent"] = Value::Null;
        row
    };
    let one = [row(ONE)];
    for (body, code) in [
        (json!({"totalSize": 1, "records": one}), "UNEXPECTED_ANSWER"),
        (json!({"totalSize": 1, "done": "yes", "records": one}), "UNEXPECTED_ANSWER"),
        (json!({"totalSize": 2, "done": false, "records": one}), "UNEXPECTED_ANSWER"),
        (json!({"totalSize": 2, "done": true, "records": one}), "INCOMPLETE_ANSWER"),
        (json!({"totalSize": 0, "done": true, "records": one}), "UNEXPECTED_ANSWER"),
        // Round and round.
        (
            json!({"totalSize": 9, "done": false, "nextRecordsUrl": next, "records": one}),
            "UNEXPECTED_ANSWER",
        ),
        (
            json!({"totalSize": 1, "done": true, "records": [row("001000000000009AAA")]}),
            "UNEXPECTED_ANSWER",
        ),
    ] {
        let text = body.to_string();
        let server = Server::with_login(move |_, _| Reply::Json(200, text.clone())).await;
        let ids = [ONE.to_owned(), "001000000000002AAA".to_owned()];
        let fault = server.client().fetch("Account", &columns, &ids).await.expect_err("a fault");
        assert_eq!(fault.code, code, "{body}");
    }
}
