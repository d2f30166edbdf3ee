//! The folder of a node's data, before its first start.

use std::collections::BTreeMap;
use std::sync::Mutex;

use super::{DATA, Node, START_BOUND, kafka_uuid, write};
use crate::support::secured::Secured;

impl Node {
    /// Makes the folder of the node's data, as Kafka's storage tool does. What the tool puts into the first
    /// one is the same in all of them but for the ids, and the tool is a JVM of its own: it runs once for
    /// each set of users.
    pub(super) fn format(&self, cluster_id: &str, secured: Option<&Secured>) {
        static FORMATTED: Mutex<BTreeMap<Vec<String>, Vec<u8>>> = Mutex::new(BTreeMap::new());
        let users: Vec<String> = secured
            .iter()
            .flat_map(|secured| secured.scram_users())
            .collect();
        let data = self.process().folder().join(DATA);
        let checkpoint = data.join("bootstrap.checkpoint");
        // Held meanwhile, so that nodes that start together do not all run the tool. One that panicked has
        // left nothing behind.
        let mut formatted = FORMATTED
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        match formatted.get(&users) {
            Some(known) => {
                std::fs::create_dir(&data).expect("a folder in the temporary folder");
                std::fs::write(&checkpoint, known).expect("a file in the temporary folder");
                let properties = format!(
                    "version=1\ncluster.id={cluster_id}\nnode.id={}\ndirectory.id={}\n",
                    self.id,
                    kafka_uuid(),
                );
                write(&data.join("meta.properties"), &properties);
            }
            None => {
                self.run_storage_tool(cluster_id, &users);
                let made = std::fs::read(&checkpoint).expect("the storage tool makes it");
                formatted.insert(users, made);
            }
        }
    }

    fn run_storage_tool(&self, cluster_id: &str, users: &[String]) {
        let mut process = self.process();
        let mut command = self.java(process.folder());
        // In one argument: an id may begin with a dash, and would be taken for an option.
        let cluster_id = format!("--cluster-id={cluster_id}");
        command.args(["kafka.tools.StorageTool", "format", &cluster_id, "-c"]);
        command.arg(process.folder().join("server.properties"));
        for user in users {
            command.args(["--add-scram", user]);
        }
        process.spawn(&mut command);
        let status = process.wait(START_BOUND);
        assert!(
            status.is_some_and(|status| status.success()),
            "the storage tool failed ({status:?}):\n{}\n{}",
            process.stdout(),
            process.stderr(),
        );
    }
}
