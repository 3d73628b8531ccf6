//! `cairn mount add` and `cairn mount set`.

use std::time::Duration;

use cairn_sdk::types::FsPath;
use cairn_sdk::{Client, MountAccess, MountOptions, MountRules, MountStatus};

use super::show;
use crate::cli::{MountAddArgs, MountChange, MountSetArgs};
use crate::exit::CliError;
use crate::fs::remote;
use crate::output::{line, object};

/// How often a directory is read again when nobody says otherwise.
const REFRESH: Duration = Duration::from_secs(60);

fn holds_credentials(what: &str) -> CliError {
    CliError::Usage(format!(
        "{what} must hold no credentials: it would be kept in the metadata and shown to everybody; the data nodes have \
         theirs from the usual AWS chain, or from --profile or --credentials-file"
    ))
}

/// Refuses an endpoint with a name or password in it: what a mount is made with is kept for ever,
/// in the Raft log too. The text is not repeated in the message.
fn check_endpoint(endpoint: &str) -> Result<(), CliError> {
    if endpoint.contains('@') { Err(holds_credentials("an endpoint")) } else { Ok(()) }
}

/// `s3://bucket/prefix` as bucket and prefix.
///
/// # Errors
/// `Usage` when it is none, or holds credentials.
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

/// What is to be mounted, and where: read before anybody is asked.
pub struct Wanted {
    path: FsPath,
    options: MountOptions,
    wait: bool,
}

impl Wanted {
    /// # Errors
    /// `Usage` for what is no URL, holds credentials, or contradicts itself.
    pub fn read(args: &MountAddArgs) -> Result<Self, CliError> {
        check_endpoint(&args.endpoint)?;
        let (bucket, prefix) = parse_s3_url(&args.url)?;
        let mut options = MountOptions {
            bucket,
            prefix,
            endpoint: args.endpoint.clone(),
            region: args.region.clone(),
            force_path_style: !args.endpoint.is_empty() && !args.virtual_host,
            refresh: args.refresh_seconds.map_or(REFRESH, Duration::from_secs),
            access: MountAccess::default(),
            rules: MountRules::writable(),
        };
        apply(&args.change, &mut options)?;
        Ok(Self { path: remote(&args.path)?, options, wait: !args.no_wait })
    }
}

/// Takes over what is given.
fn apply(change: &MountChange, options: &mut MountOptions) -> Result<(), CliError> {
    let MountOptions { refresh, access, rules, .. } = options;
    let text = |new: &Option<String>, old: &mut String| {
        if let Some(new) = new {
            old.clone_from(new);
        }
    };
    text(&change.profile, &mut access.profile);
    text(&change.credentials_file, &mut access.credentials_file);
    text(&change.sse_kms_key, &mut access.sse_kms_key);
    text(&change.storage_class, &mut access.storage_class);
    if let Some(sse) = &change.sse {
        access.sse = if sse == "none" { String::new() } else { sse.clone() };
    }
    access.requester_pays = change.requester_pays.unwrap_or(access.requester_pays);
    *refresh = change.refresh.map_or(*refresh, Duration::from_millis);
    rules.writable = change.read_only.map_or(rules.writable, |read_only| !read_only);
    rules.object_lag = change.object_lag.map_or(rules.object_lag, Duration::from_millis);
    rules.on_conflict = change.on_conflict.map_or(rules.on_conflict, Into::into);
    rules.sole_writer = change.sole_writer.unwrap_or(rules.sole_writer);
    if !rules.writable {
        // What nothing is written by says nothing.
        *rules = MountRules { on_conflict: rules.on_conflict, ..MountRules::default() };
    }
    if !access.sse_kms_key.is_empty() && access.sse != "aws:kms" {
        return Err(CliError::Usage("--sse-kms-key is the key of --sse aws:kms".to_owned()));
    }
    Ok(())
}

pub async fn add(client: &Client, wanted: Wanted, json: bool) -> Result<(), CliError> {
    let Wanted { path, options, wait } = wanted;
    let writable = options.rules.writable;
    client.mount_add(path.to_bytes(), options).await?;
    if writable && wait {
        tell(&client.mount_ready(path.to_bytes()).await?, json)?;
    }
    Ok(())
}

pub async fn set(client: &Client, args: &MountSetArgs, json: bool) -> Result<(), CliError> {
    let path = remote(&args.path)?;
    if args.change == MountChange::default() {
        return Err(CliError::Usage(
            "name what is to change: `cairn mount set --help` says what can".to_owned(),
        ));
    }
    let mut options = client.mount_status(path.to_bytes()).await?.options;
    apply(&args.change, &mut options)?;
    client.mount_set(path.to_bytes(), options.refresh, &options.access, options.rules).await?;
    tell(&client.mount_ready(path.to_bytes()).await?, json)
}

/// Says how a mount stands after it was made or changed.
fn tell(mount: &MountStatus, json: bool) -> Result<(), CliError> {
    if json {
        return object(&show::as_json(mount));
    }
    if mount.read_only && mount.options.rules.writable {
        eprintln!("cairn: {} is read-only: {}", show::path_of(mount), mount.read_only_because);
    }
    line(format!("{}\t{}\t{}", show::path_of(mount), show::url_of(mount), show::access_word(mount)))
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

    #[test]
    fn only_what_is_given_changes() {
        let mut options = MountOptions { rules: MountRules::writable(), ..MountOptions::default() };
        let lag = MountChange { object_lag: Some(5_000), ..MountChange::default() };
        apply(&lag, &mut options).unwrap();
        assert_eq!(options.rules.object_lag, Duration::from_secs(5));
        let sse = MountChange { sse: Some("aws:kms".to_owned()), ..MountChange::default() };
        apply(&sse, &mut options).unwrap();
        let key = MountChange { sse_kms_key: Some("k".to_owned()), ..MountChange::default() };
        apply(&key, &mut options).unwrap();
        assert!(options.rules.writable && options.access.sse_kms_key == "k");
        let none = MountChange { sse: Some("none".to_owned()), ..MountChange::default() };
        assert_eq!(apply(&none, &mut options).unwrap_err().code(), 2, "a key without what it is for");
        let read_only = MountChange { read_only: Some(true), ..MountChange::default() };
        let mut plain = MountOptions { rules: MountRules::writable(), ..MountOptions::default() };
        apply(&read_only, &mut plain).unwrap();
        assert_eq!(plain.rules, MountRules::default(), "as every build knows it");
    }
}
