//! Attention on the best adapter: each named problem is checked against the f64 reference, then timed.
//! On a software adapter the times say nothing about GPUs; the group's name tells the device.

use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use tilewise::any::AnyProblem;
use tilewise::operator::Operator;
use tilewise::problems::{Resident, find, work};
use tilewise::verify::Expected;
use tilewise::{Engine, EngineOptions};

/// One of each kind, so that all of it takes a minute.
const PROBLEMS: [&str; 8] = [
    "prefill_causal",
    "llama_decode",
    "bert_padded",
    "sliding_window",
    "gqa_odd_tails",
    "gpt_oss_sinks",
    "swin_windows",
    "packed_documents",
];

fn attention(criterion: &mut Criterion) {
    let engine = Engine::open(&EngineOptions::default()).expect("an adapter");
    let adapter = engine.adapter();
    let mut group = criterion.benchmark_group(format!("{} ({})", adapter.name, adapter.kind));
    group.sample_size(10).warm_up_time(Duration::from_millis(300));
    group.measurement_time(Duration::from_secs(2));
    for name in PROBLEMS {
        let question = find(name).expect("a known name").problem().expect("a right problem");
        let AnyProblem::Attention(problem) = &question else { panic!("{name} is no attention") };
        let inputs = problem.sample(1);
        let expected = Expected::new(&question, &inputs).expect("a reference");
        let call =
            Resident::new(&engine, problem.as_ref(), None, &inputs).expect("a call that fits");
        call.run(1).expect("a run");
        let outputs = call.outputs().expect("outputs");
        expected.check(&outputs).expect("right outputs");
        let work = work(&question, &inputs).expect("work");
        group.throughput(Throughput::Elements(work.flops as u64));
        group.bench_function(name, |bencher| bencher.iter(|| call.run(1).expect("a run")));
    }
    group.finish();
}

criterion_group!(benches, attention);
criterion_main!(benches);
