//! Two of three nodes are lost for good: the third is made the whole cluster, serves, and
//! takes new nodes in; an old one that comes back is refused.

use std::time::Duration;

use serde_json::json;
use strowger_tests::cluster::Cluster;
use strowger_tests::daemon::{Daemon, node_file, verb};
use strowger_tests::phone::{Phone, Policy};
use strowger_tests::poll::eventually;

const SOON: Duration = Duration::from_secs(15);

#[test]
fn a_survivor_goes_on_alone_takes_new_nodes_in_and_refuses_the_old() {
    let mut cluster = Cluster::start("basic.toml");
    let csv = cluster.site_folder().join("more.csv");
    std::fs::write(&csv, "extension,password\n2001,precious\n").expect("written");
    let file = csv.to_str().expect("plain ASCII").to_owned();
    let (code, _, err) = cluster.command(&["extension", "import", &file]);
    assert_eq!(code, 0, "{err}");
    let phone = |last: u8, user: &str, password: &str| {
        let address = format!("127.0.0.{last}").parse().expect("an address");
        Phone::new(address, user, password, 440)
    };
    let one = phone(89, "2001", "precious");
    assert_eq!(one.register(cluster.service(0), 600), Some(200));
    let survivor = cluster.dir().join("n1/node.toml");
    let (code, _, err) = verb("recover", &survivor, &["--force"]);
    assert_eq!(code, 1, "{err}");
    assert!(err.contains("SW0420"), "it runs: {err}");

    cluster.kill(2);
    cluster.kill(3);
    cluster.end(1);
    let old = cluster.dir().join("n2/data");
    let kept = cluster.dir().join("n2/kept");
    eventually(SOON, "the killed processes have let their data go", || {
        std::fs::rename(&old, &kept).ok()
    });
    std::fs::remove_dir_all(cluster.dir().join("n3/data")).expect("removed");

    let (code, out, err) = verb("recover", &survivor, &[]);
    println!("{out}{err}");
    assert_eq!(code, 1, "{err}");
    assert!(err.contains("SW0118"), "{err}");
    assert!(out.contains("node_2,node_3 are removed"), "{out}");
    let (code, again, _) = verb("recover", &survivor, &[]);
    assert_eq!((code, again), (1, out.clone()), "nothing was changed");
    let (code, out, err) = verb("recover", &survivor, &["--force"]);
    assert_eq!(code, 0, "{err}");
    assert!(out.contains("recovered node=1 lost=node_2,node_3"), "{out}");

    cluster.restart(1);
    let api = cluster.api(1);
    eventually(SOON, "it holds every address", || {
        let nodes = api.list("/v1/nodes")?;
        let own = nodes.iter().find(|node| node["id"] == "node_1")?;
        let held = own["service_addresses"].as_array()?.len();
        let others = nodes.iter().filter(|node| node["state"] == "up").count();
        (held == 6 && others == 1).then_some(())
    });
    assert_eq!(one.register(cluster.service(5), 600), Some(200));
    let other = phone(90, "1002", &cluster.password("1002"));
    other.set_policy(Policy::Answer {
        after: Duration::ZERO,
        talk: None,
    });
    assert_eq!(other.register(cluster.service(3), 600), Some(200));
    let call = one.call(cluster.service(5), "1002");
    assert!(call.answered(SOON), "{:?}", call.view());
    call.hang_up();
    call.ended(SOON).expect("the call ends");
    let (code, _, err) = verb("recover", &survivor, &["--force"]);
    assert_eq!(code, 1, "{err}");

    // The floor forgets the lost nodes; new ones come in under new numbers.
    for node in ["2", "3"] {
        let (code, _, err) = cluster.command(&["node", "remove", node]);
        assert_eq!(code, 0, "{err}");
    }
    let mut fresh = Vec::new();
    for number in [4, 5] {
        let file = node_file(&cluster.dir().join(format!("n{number}")), number);
        let wish = json!({ "ttl_s": 600, "node": number });
        let answer = api.post("/v1/nodes/invite", &wish).expect("answers");
        let token = answer.json["token"].as_str().expect("a token").to_owned();
        let (code, _, err) = verb("join", &file, &["--token", &token]);
        assert_eq!(code, 0, "{err}");
        fresh.push(Daemon::run(&file, number));
    }
    eventually(SOON, "all three vote and carry their share", || {
        let nodes = api.list("/v1/nodes")?;
        let share = |node: &serde_json::Value| {
            let held = node["service_addresses"].as_array().map_or(0, Vec::len);
            node["state"] == "up" && node["role"] != "learner" && held == 2
        };
        (nodes.len() == 3 && nodes.iter().all(share)).then_some(())
    });

    std::fs::rename(&kept, &old).expect("put back");
    let (code, _, err) = cluster.run_to_its_end(2, &[]);
    println!("an old node: {}", err.trim());
    assert_eq!(code, 1, "{err}");
    assert!(err.contains("SW0404"), "{err}");
    let nodes = api.list("/v1/nodes").expect("nodes");
    assert_eq!(nodes.len(), 3, "{nodes:#?}");
    for service in cluster.sip() {
        assert_eq!(one.register(*service, 600), Some(200), "{service}");
    }
    for daemon in fresh {
        assert_eq!(daemon.end(), Some(0));
    }
    assert!(cluster.panics().is_empty(), "{:#?}", cluster.panics());
}
