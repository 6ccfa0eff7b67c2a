//! Which fields of which object stand in which column.

/// The columns of one kind of object.
#[derive(Debug)]
pub struct Shape {
    /// Heading and field of each table column.
    pub table: &'static [(&'static str, &'static str)],
    /// Fields of the CSV, in the order of the interface.
    pub csv: &'static [&'static str],
}

macro_rules! shapes {
    ($($(#[$doc:meta])* $name:ident: [$($head:literal $field:literal),* $(,)?],
        csv [$($csv:literal)*];)*) => {
        /// The shapes by name of the object.
        pub mod shape {
            use super::Shape;
            $($(#[$doc])* pub static $name: Shape = Shape {
                table: &[$(($head, $field)),*],
                csv: &[$($csv),*],
            };)*
        }
    };
}

shapes! {
    /// The cluster.
    CLUSTER: ["NAME" "name", "LEADER" "leader", "TERM" "term", "APPLIED" "applied",
        "NODES" "nodes", "UP" "nodes_up", "LEVEL" "feature_level"],
        csv ["name" "id" "leader" "term" "applied" "nodes" "nodes_up" "feature_level"];
    /// A service address, part of the cluster.
    SERVICE_ADDRESS: ["ADDRESS" "address", "NODE" "node", "EPOCH" "epoch", "CALLS" "calls"],
        csv ["address" "node" "epoch" "calls"];
    /// A node.
    NODE: ["NODE" "id", "ADDRESS" "address", "STATE" "state", "ROLE" "role", "TERM" "term",
        "APPLIED" "applied", "LAG" "lag", "CALLS" "calls", "VERSION" "version",
        "SERVICE ADDRESSES" "service_addresses"],
        csv ["id" "address" "state" "role" "term" "applied" "lag" "calls" "version"
            "state_hash" "service_addresses"];
    /// An extension.
    EXTENSION: ["EXTENSION" "extension", "REGISTERED" "registrations", "AGENTS" "agents",
        "CONTACT" "contact"],
        csv ["extension" "contact" "registrations" "agents"];
    /// A registration.
    REGISTRATION: ["EXTENSION" "extension", "CONTACT" "contact", "TRANSPORT" "transport",
        "NODE" "node", "EXPIRES" "expires_at"],
        csv ["extension" "contact" "transport" "node" "expires_at"];
    /// An agent.
    AGENT: ["AGENT" "id", "EXTENSION" "extension", "STATE" "state", "REASON" "reason",
        "SINCE" "since_at", "CALLS" "calls", "CALL" "call", "QUEUES" "queues"],
        csv ["id" "extension" "state" "reason" "since_at" "calls" "call" "queues"];
    /// A queue.
    QUEUE: ["QUEUE" "name", "STRATEGY" "strategy", "WAITING" "waiting",
        "LONGEST" "longest_wait_ms", "READY" "agents_ready", "SIGNED IN" "agents_signed_in"],
        csv ["name" "strategy" "waiting" "longest_wait_ms" "agents_ready" "agents_signed_in"];
    /// Opening hours.
    HOURS: ["HOURS" "name", "STATE" "state", "NEXT CHANGE" "next_change_at",
        "BY HAND UNTIL" "overridden_until_at", "TIME ZONE" "timezone", "NUMBERS" "numbers"],
        csv ["name" "state" "next_change_at" "overridden_until_at" "timezone" "numbers"];
    /// Opening hours on a day.
    HOURS_DAY: ["HOURS" "name", "DATE" "date", "HOLIDAY" "holiday", "TIME ZONE" "timezone",
        "OPEN" "spans"],
        csv ["name" "date" "holiday" "timezone" "spans"];
    /// A live call.
    CALL: ["CALL" "id", "STATE" "state", "FROM" "from", "TO" "to", "SINCE" "started_at",
        "QUEUE" "queue", "AGENT" "agent", "PLACE" "position", "WAIT" "wait_ms",
        "NODE" "node"],
        csv ["id" "state" "from" "to" "started_at" "queue" "agent" "position" "wait_ms" "node"
            "address" "epoch" "customer" "legs"];
    /// A leg, part of a call or record.
    LEG: ["LEG" "id", "DIRECTION" "direction", "PARTY" "party", "STATE" "state",
        "CODEC" "codec", "REMOTE" "remote", "ANSWERED" "answered_at", "SIP CALL-ID" "sip_call_id"],
        csv ["id" "sip_call_id" "direction" "party" "remote" "codec" "state" "started_at"
            "answered_at" "ended_at"];
    /// Why a call was offered to whom.
    EXPLANATION: ["AT" "at", "OFFERED TO" "winners", "QUEUE" "queue", "STRATEGY" "strategy",
        "WAITED" "waited_ms", "SCORE/1000" "score_milli", "INDEX" "index"],
        csv ["call" "index" "at" "queue" "strategy" "relax_step" "winners" "waited_ms"
            "score_milli" "weight" "priority" "aged" "meant" "candidates_in_all" "members"
            "working" "unfit"];
    /// An agent who could have taken a call, part of an explanation.
    CONSIDERED: ["AGENT" "agent", "IDLE" "idle_ms", "CALLS" "calls", "TALK" "talk_ms",
        "LAST OFFER" "last_offer"],
        csv ["agent" "idle_ms" "calls" "talk_ms" "last_offer"];
    /// An agent who could not take a call, part of an explanation.
    EXCLUDED: ["AGENT" "agent", "REASON" "reason"],
        csv ["agent" "reason"];
    /// A customer to be called back.
    CALLBACK: ["CALLBACK" "id", "NUMBER" "number", "QUEUE" "queue", "STATE" "state",
        "TAKEN" "taken_at", "ATTEMPTS" "attempts", "NEXT" "next_at", "CALL" "call",
        "AGENT" "agent"],
        csv ["id" "queue" "number" "to" "state" "taken_at" "since" "attempts" "next_at" "call"
            "agent" "customer"];
    /// A trunk.
    TRUNK: ["TRUNK" "name", "STATE" "state", "CHANNELS" "channels", "IN USE" "in_use",
        "PEAK" "peak", "RELEASING" "releasing", "REFUSED" "refused", "DOUBTFUL" "doubtful"],
        csv ["name" "channels" "in_use" "peak" "state" "peak_at" "releasing" "cps" "seized"
            "refused" "doubtful"];
    /// A call detail record.
    CDR: ["STARTED" "started_at", "FROM" "from", "TO" "to", "DISPOSITION" "disposition",
        "WAIT" "wait_ms", "TALK" "talk_ms", "QUEUE" "queue", "AGENT" "agent", "NODE" "node",
        "SIP" "sip_status", "CURSOR" "cursor"],
        csv ["id" "cursor" "call" "from" "to" "started_at" "queued_at" "answered_at" "ended_at"
            "wait_ms" "talk_ms" "queue" "agent" "node" "disposition" "sip_status" "q850"
            "customer" "callback" "legs"];
    /// A customer.
    CUSTOMER: ["CUSTOMER" "id", "NAME" "name", "TIER" "tier", "NUMBERS" "numbers",
        "TAGS" "tags", "OWNER" "owner", "LAST CONTACT" "last_contact_at",
        "LAST AGENT" "last_agent", "VERSION" "version"],
        csv ["id" "name" "tier" "tags" "numbers" "owner" "fields" "version" "created_at"
            "updated_at" "last_contact_at" "last_agent"];
    /// A contact of a customer.
    INTERACTION: ["AT" "at", "CHANNEL" "channel", "DIRECTION" "direction", "QUEUE" "queue",
        "AGENT" "agent", "DISPOSITION" "disposition", "WAIT" "wait_ms", "TALK" "talk_ms",
        "CALL" "call"],
        csv ["id" "cursor" "at" "channel" "direction" "call" "queue" "agent" "disposition"
            "wait_ms" "talk_ms"];
    /// An import of customers.
    IMPORT: ["IMPORT" "id", "STATE" "state", "ROWS" "rows", "CREATED" "created",
        "UPDATED" "updated", "UNCHANGED" "unchanged", "REJECTED" "rejected",
        "BEGAN" "began_at", "ENDED" "ended_at"],
        csv ["id" "state" "rows" "created" "updated" "unchanged" "rejected" "began_at"
            "updated_at" "ended_at"];
    /// Live figures of a queue or tenant.
    FIGURES: ["TENANT" "tenant", "NAME" "name", "OFFERED" "offered", "ANSWERED" "answered",
        "ABANDONED" "abandoned", "OVERFLOWED" "overflowed", "CALLBACK" "callback_taken",
        "NODE LOST" "node_lost", "WAITING" "waiting",
        "FORMULA" "sl_formula", "SL" "sl_permille",
        "ASA" "asa_ms", "P90" "wait_p90_ms", "AHT" "aht_ms"],
        csv ["tenant" "of" "name" "queue" "from_at" "to_at" "offered" "answered" "abandoned"
            "overflowed" "callback_taken" "node_lost" "waiting" "answered_in_target"
            "abandoned_in_target" "short_abandoned" "sl_formula" "sl_target_ms" "sl_permille"
            "sl_a_permille" "sl_b_permille" "sl_c_permille" "asa_ms" "wait_p90_ms"
            "wait_max_ms" "answered_wait_ms" "aht_ms" "talk_ms" "hold_ms" "wrap_ms" "ring_ms"
            "offers" "missed" "missed_permille" "adverts" "foretold" "foretold_wait_ms"
            "foretold_off_ms" "transfers" "staffed_ms" "paused_ms" "busy_ms"
            "occupancy_permille"];
    /// Figures of a queue or tenant in an interval.
    FIGURES_INTERVAL: ["FROM" "from_at", "TO" "to_at", "NAME" "name", "OFFERED" "offered", "ANSWERED" "answered",
        "ABANDONED" "abandoned", "OVERFLOWED" "overflowed", "CALLBACK" "callback_taken",
        "NODE LOST" "node_lost", "FORMULA" "sl_formula", "SL" "sl_permille",
        "ASA" "asa_ms", "P90" "wait_p90_ms", "AHT" "aht_ms"],
        csv ["tenant" "of" "name" "queue" "from_at" "to_at" "offered" "answered" "abandoned"
            "overflowed" "callback_taken" "node_lost" "waiting" "answered_in_target"
            "abandoned_in_target" "short_abandoned" "sl_formula" "sl_target_ms" "sl_permille"
            "sl_a_permille" "sl_b_permille" "sl_c_permille" "asa_ms" "wait_p90_ms"
            "wait_max_ms" "answered_wait_ms" "aht_ms" "talk_ms" "hold_ms" "wrap_ms" "ring_ms"
            "offers" "missed" "missed_permille" "adverts" "foretold" "foretold_wait_ms"
            "foretold_off_ms" "transfers" "staffed_ms" "paused_ms" "busy_ms"
            "occupancy_permille"];
    /// Live figures of an agent or team.
    WORK: ["TENANT" "tenant", "NAME" "name", "OFFERS" "offers", "ANSWERED" "answered",
        "MISSED" "missed", "TRANSFERS" "transfers", "AHT" "aht_ms", "TALK" "talk_ms",
        "HOLD" "hold_ms", "WRAP-UP" "wrap_ms", "SIGNED IN" "staffed_ms",
        "PAUSED" "paused_ms", "OCCUPANCY" "occupancy_permille"],
        csv ["tenant" "of" "name" "queue" "from_at" "to_at" "offered" "answered" "abandoned"
            "overflowed" "callback_taken" "node_lost" "waiting" "answered_in_target"
            "abandoned_in_target" "short_abandoned" "sl_formula" "sl_target_ms" "sl_permille"
            "sl_a_permille" "sl_b_permille" "sl_c_permille" "asa_ms" "wait_p90_ms"
            "wait_max_ms" "answered_wait_ms" "aht_ms" "talk_ms" "hold_ms" "wrap_ms" "ring_ms"
            "offers" "missed" "missed_permille" "adverts" "foretold" "foretold_wait_ms"
            "foretold_off_ms" "transfers" "staffed_ms" "paused_ms" "busy_ms"
            "occupancy_permille"];
    /// Figures of an agent or team in an interval.
    WORK_INTERVAL: ["FROM" "from_at", "TO" "to_at", "NAME" "name", "OFFERS" "offers", "ANSWERED" "answered",
        "MISSED" "missed", "TRANSFERS" "transfers", "AHT" "aht_ms", "TALK" "talk_ms",
        "HOLD" "hold_ms", "WRAP-UP" "wrap_ms", "SIGNED IN" "staffed_ms",
        "PAUSED" "paused_ms", "OCCUPANCY" "occupancy_permille"],
        csv ["tenant" "of" "name" "queue" "from_at" "to_at" "offered" "answered" "abandoned"
            "overflowed" "callback_taken" "node_lost" "waiting" "answered_in_target"
            "abandoned_in_target" "short_abandoned" "sl_formula" "sl_target_ms" "sl_permille"
            "sl_a_permille" "sl_b_permille" "sl_c_permille" "asa_ms" "wait_p90_ms"
            "wait_max_ms" "answered_wait_ms" "aht_ms" "talk_ms" "hold_ms" "wrap_ms" "ring_ms"
            "offers" "missed" "missed_permille" "adverts" "foretold" "foretold_wait_ms"
            "foretold_off_ms" "transfers" "staffed_ms" "paused_ms" "busy_ms"
            "occupancy_permille"];
    /// An event.
    EVENT: ["AT" "at", "TYPE" "type", "ENTITY" "entity"],
        csv ["cursor" "at" "type" "entity" "fields"];
    /// A version of the site.
    SITE_VERSION: ["VERSION" "version", "APPLIED" "applied_at", "CURRENT" "current",
        "HASH" "hash"],
        csv ["version" "applied_at" "hash" "current"];
    /// A password made for an extension.
    SECRET: ["EXTENSION" "extension", "PASSWORD" "password"],
        csv ["extension" "password"];
    /// What an import changed.
    EXTENSIONS_IMPORTED: ["VERSION" "version", "ADDED" "added", "UPDATED" "updated",
        "UNCHANGED" "unchanged", "REMOVED" "removed"],
        csv ["version" "added" "updated" "unchanged" "removed"];
    /// What became of a command.
    OUTCOME: ["COMMAND" "id", "OUTCOME" "outcome"],
        csv ["id" "outcome"];
    /// An invitation.
    INVITATION: ["TOKEN" "token", "EXPIRES" "expires_at"],
        csv ["token" "expires_at"];
    /// A check of `doctor`.
    CHECK: ["CHECK" "check", "RESULT" "result", "DETAIL" "detail"],
        csv ["check" "result" "detail"];
}
