//! `cairn mount`.

use std::time::Duration;

use cairn_sdk::MountOptions;
use serde_json::json;

use crate::cli::{Connect, MountCommand};
use crate::exit::CliError;
use crate::fs::{connect, remote};
use crate::output::line;

fn holds_credentials(what: &str) -> CliError {
    CliError::Usage(format!(
        "{what} must hold no credentials: it would be kept in the metadata and shown to everybody; the data nodes have \
         theirs from the usual AWS chain"
    ))
}

/// Refuses an endpoint with a name or password in it: what a mount is made with is kept for ever,
/// in the Raft log too. The text is not repeated in the message.
fn check_endpoint(endpoint: &str) -> Result<(), CliError> {
    if endpoint.contains('@') { Err(holds_credentials("an endpoint")) } else { Ok(()) }
}

/// `s3://bucket/prefix` as bucket and prefix.
pub fn parse_s3_url(url: &str) -> Result<(String, String), CliError> {
    let bad = || CliError::Usage(format!("'{url}' is no S3 URL: write s3://bucket or s3://bucket/prefix"));
    let rest = url.strip_prefix("s3://").ok_or_else(bad)?;
    let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
    if bucket.contains(['@', ':']) {
        return Err(holds_credentials("the S3 URL"));
    }
    if bucket.is_empty() {
        return Err(bad());
    }
    Ok((bucket.to_owned(), prefix.to_owned()))
}

pub async fn run(at: &Connect, command: MountCommand) -> Result<(), CliError> {
    if let MountCommand::Add { url, endpoint, .. } = &command {
        check_endpoint(endpoint)?;
        parse_s3_url(url)?;
    }
    let client = connect(at).await?;
    let outcome = match command {
        MountCommand::Add { url, path, endpoint, region, refresh_seconds, virtual_host } => {
            let (bucket, prefix) = parse_s3_url(&url)?;
            let force_path_style = !endpoint.is_empty() && !virtual_host;
            let refresh = Duration::from_secs(refresh_seconds);
            let options = MountOptions { bucket, prefix, endpoint, region, force_path_style, refresh };
            client.mount_add(remote(&path)?.to_bytes(), options).await.map(|_| ()).map_err(CliError::from)
        }
        MountCommand::Rm { path } => {
            client.mount_remove(remote(&path)?.to_bytes()).await.map_err(CliError::from)
        }
        MountCommand::Ls { json } => list(&client, json).await,
    };
    let closed = client.close().await;
    outcome?;
    Ok(closed?)
}

async fn list(client: &cairn_sdk::Client, as_json: bool) -> Result<(), CliError> {
    for mount in client.mounts().await? {
        let path = String::from_utf8_lossy(&mount.path).into_owned();
        let url = format!("s3://{}/{}", mount.options.bucket, mount.options.prefix);
        if as_json {
            let shown = json!({
                "id": mount.id.0, "path": path, "url": url, "endpoint": mount.options.endpoint,
                "region": mount.options.region, "read_only": mount.read_only,
                "refresh_ms": u64::try_from(mount.options.refresh.as_millis()).unwrap_or(u64::MAX),
            });
            line(shown.to_string())?;
        } else {
            let access = if mount.read_only { "read-only" } else { "read-write" };
            line(format!("{path}\t{url}\t{access}\t{}", mount.options.endpoint))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s3_urls_parse() {
        assert_eq!(parse_s3_url("s3://b/p/q").ok(), Some(("b".into(), "p/q".into())));
        assert_eq!(parse_s3_url("s3://b").ok(), Some(("b".into(), String::new())));
        assert!(parse_s3_url("s3:///p").is_err());
        assert!(parse_s3_url("https://b").is_err());
    }

    #[test]
    fn credentials_are_refused_and_not_repeated() {
        assert!(check_endpoint("http://host:9000").is_ok() && check_endpoint("").is_ok());
        assert!(parse_s3_url("s3://b/a@b:c").is_ok());
        for refused in [
            check_endpoint("http://AKID:SEC/RET@host:9000").unwrap_err(),
            check_endpoint("AKID@host").unwrap_err(),
            parse_s3_url("s3://AKID:SECRET@bucket/p").unwrap_err(),
            parse_s3_url("s3://AKID:SEC/RET@bucket/p").unwrap_err(),
        ] {
            let told = refused.to_string();
            assert_eq!(refused.code(), 2);
            assert!(told.contains("must hold no credentials") && !told.contains("AKID"), "{told}");
        }
    }
}
