//! A bucket that keeps conditions.

use std::collections::BTreeMap;

use cairn_meta::namespace::command::FoundObject;
use cairn_types::Timestamp;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Object {
    pub etag: String,
    pub data: Vec<u8>,
    /// The intent that wrote it; none: somebody else.
    pub intent: Option<u64>,
    pub metadata: BTreeMap<String, String>,
}

impl Object {
    pub fn found(&self) -> FoundObject {
        FoundObject { etag: self.etag.clone(), size: self.data.len() as u64, mtime: Timestamp(77) }
    }
}

#[derive(Default)]
pub struct Bucket {
    pub objects: BTreeMap<Vec<u8>, Object>,
    versions: u64,
    /// What others overwrote or deleted.
    pub destroyed: Vec<Vec<u8>>,
}

impl Bucket {
    fn etag(&mut self) -> String {
        self.versions += 1;
        format!("v{}", self.versions)
    }

    /// Somebody else writes.
    pub fn put(&mut self, key: &str, data: &[u8]) -> String {
        let etag = self.etag();
        let object = Object { etag: etag.clone(), data: data.to_vec(), intent: None, metadata: BTreeMap::new() };
        let old = self.objects.insert(key.as_bytes().to_vec(), object);
        self.destroyed.extend(old.map(|old| old.data));
        etag
    }

    /// Somebody else deletes.
    pub fn delete(&mut self, key: &[u8]) {
        let old = self.objects.remove(key);
        self.destroyed.extend(old.map(|old| old.data));
    }

    /// We write, in place of that version alone; empty: of none.
    pub fn put_if(
        &mut self,
        key: &[u8],
        replaces: &str,
        data: Vec<u8>,
        (intent, metadata): (u64, BTreeMap<String, String>),
    ) -> Result<String, ()> {
        let there = self.objects.get(key).map_or("", |object| object.etag.as_str());
        if there != replaces {
            return Err(());
        }
        let etag = self.etag();
        let object = Object { etag: etag.clone(), data, intent: Some(intent), metadata };
        self.objects.insert(key.to_vec(), object);
        Ok(etag)
    }

    /// We delete, that version alone.
    pub fn delete_if(&mut self, key: &[u8], etag: &str) -> Result<(), ()> {
        match self.objects.get(key) {
            None => Ok(()),
            Some(object) if object.etag == etag => {
                self.objects.remove(key);
                Ok(())
            }
            Some(_) => Err(()),
        }
    }

    pub fn data(&self, key: &str) -> Option<&[u8]> {
        self.objects.get(key.as_bytes()).map(|object| object.data.as_slice())
    }

    pub fn keys(&self) -> Vec<String> {
        self.objects.keys().map(|key| String::from_utf8(key.clone()).unwrap()).collect()
    }
}
