use crate::exchange::{Answer, Request};
use crate::org::Org;
use serde_json::{Value, json};

/// Only what the org really counts can go down (REST API guide, Limits).
pub(super) fn limits(org: &Org) -> Answer {
    let full = |max: u64| json!({"Max": max, "Remaining": max});
    let remaining = org.daily_limit.saturating_sub(org.used);
    Answer::json(
        200,
        json!({
            "DailyApiRequests": {"Max": org.daily_limit, "Remaining": remaining},
            "DailyBulkApiBatches": org.jobs.batches(),
            "DailyBulkV2QueryJobs": org.jobs.query_jobs(),
            "DailyBulkV2QueryFileStorageMB": full(976_562),
            "DailyAsyncApexExecutions": full(250_000),
            "DailyDeliveredPlatformEvents": full(10_000),
            "DailyDurableStreamingApiEvents": full(10_000),
            "DailyGenericStreamingApiEvents": full(10_000),
            "DailyStreamingApiEvents": full(10_000),
            "DailyWorkflowEmails": full(100),
            "DataStorageMB": full(5),
            "DurableStreamingApiConcurrentClients": full(20),
            "FileStorageMB": full(20),
            "HourlyPublishedPlatformEvents": full(50_000),
            "HourlyPublishedStandardVolumePlatformEvents": full(1_000),
            "MonthlyPlatformEventsUsageEntitlement": full(0),
            "SingleEmail": full(15),
            "StreamingApiConcurrentClients": full(20),
        }),
    )
}

pub(super) fn counts(org: &Org, request: &Request) -> Answer {
    let names = request.parameter("sObjects").unwrap_or_default();
    let known = names.split(',').filter_map(|name| org.object(name.trim()));
    let counts: Vec<Value> = known
        .filter_map(|object| {
            let rows = org.table(&object.name).into_iter().flat_map(|table| table.rows());
            let count = rows.filter(|row| !row.deleted).count();
            (count > 0).then(|| json!({"count": count, "name": object.name}))
        })
        .collect();
    Answer::json(200, json!({"sObjects": counts}))
}
