//! Named problems that belong together.

use crate::any::AnyProblem;
use crate::attention::{HeadCount, Mask};

/// Problems that are compared, or that one model has.
#[derive(Clone, Copy, Debug)]
pub struct Suite {
    /// Its name, as the command line takes it.
    pub name: &'static str,
    /// What it holds, in a line.
    pub about: &'static str,
    /// Names of its problems.
    pub problems: &'static [&'static str],
    /// What grows from problem to problem, where it is one thing.
    pub along: Option<Along>,
}

/// What grows along a suite.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Along {
    /// Keys that there are.
    Length,
    /// Keys that a query sees, on each axis.
    Window,
}

impl Along {
    /// How much of it a problem has: keys, tokens or rows; `None` where it has no such thing.
    pub fn of(self, problem: &AnyProblem) -> Option<f64> {
        match (self, problem) {
            (Self::Length, AnyProblem::Attention(problem)) => {
                Some(f64::from(problem.extents.seq_len_kv))
            }
            (Self::Length, AnyProblem::Neighborhood(problem)) => Some(problem.tokens() as f64),
            (Self::Length, AnyProblem::Moe(problem)) => Some(f64::from(problem.extents.tokens)),
            (Self::Length, AnyProblem::Matmul(problem)) => Some(f64::from(problem.extents.rows)),
            (Self::Window, AnyProblem::Attention(problem)) => match problem.spec.mask {
                Mask::Band { left: Some(HeadCount::All(left)), right: Some(HeadCount::All(0)) } => {
                    Some(f64::from(left) + 1.0)
                }
                _ => None,
            },
            (Self::Window, AnyProblem::Neighborhood(problem)) => {
                problem.spec.window.first().map(|&side| f64::from(side))
            }
            _ => None,
        }
    }
}

/// Every suite.
pub static SUITES: &[Suite] = &[
    Suite {
        name: "prefill",
        about: "a decoder's prompt: causal, 8 heads of 64, f32, longer and longer",
        problems: &[
            "prefill_causal_128",
            "prefill_causal_256",
            "prefill_causal_512",
            "prefill_causal",
            "prefill_causal_2048",
        ],
        along: Some(Along::Length),
    },
    Suite {
        name: "decode",
        about: "one new token: 32 heads on 8, 128 dims, f16, more and more keys",
        problems: &[
            "llama_decode_512",
            "llama_decode_2048",
            "llama_decode",
            "llama_decode_8192",
            "llama_decode_16384",
        ],
        along: Some(Along::Length),
    },
    Suite {
        name: "window",
        about: "8,192 tokens, each sees so many before it: 4 heads of 64, f32",
        problems: &[
            "sliding_window_32",
            "sliding_window",
            "sliding_window_512",
            "sliding_window_2048",
        ],
        along: Some(Along::Window),
    },
    Suite {
        name: "neighborhood",
        about: "an image of 56 by 56 tokens, larger and larger windows: 2 heads of 64, f32",
        problems: &["na2d_3", "na2d_5", "na2d_7", "na2d_13", "na2d_27"],
        along: Some(Along::Window),
    },
    Suite {
        name: "moe",
        about: "mixtures of experts, and a matmul as large",
        problems: &["moe_prefill", "moe_decode", "matmul_1024"],
        along: None,
    },
    Suite {
        name: "llama3_8b",
        about: "Llama 3 8B: attention, and projections with weights in blocks",
        problems: &[
            "llama_prefill",
            "llama_decode",
            "llama_speculative",
            "llama_q_decode",
            "llama_up_decode",
            "llama_up_prefill",
        ],
        along: None,
    },
    Suite {
        name: "qwen3_30b_a3b",
        about: "Qwen3 30B A3B: attention, and 32 of its 128 experts",
        problems: &["qwen3_prefill", "qwen3_decode", "qwen3_moe_prefill", "qwen3_moe_decode"],
        along: None,
    },
    Suite {
        name: "gpt_oss_20b",
        about: "gpt-oss 20B: windowed and full attention with sinks, and 8 of its 32 experts",
        problems: &[
            "gpt_oss_sinks",
            "gpt_oss_full",
            "gpt_oss_decode",
            "gpt_oss_moe_prefill",
            "gpt_oss_moe_decode",
        ],
        along: None,
    },
    Suite {
        name: "flux",
        about: "FLUX.1: joint attention of text and image, cut to 512 and 1,024 of 4,608 tokens",
        problems: &["flux_joint", "flux_joint_1024"],
        along: Some(Along::Length),
    },
    Suite {
        name: "dinat",
        about: "DiNAT mini: local and dilated layers of three stages",
        problems: &[
            "dinat_stage1",
            "dinat_stage1_dilated",
            "dinat_stage2",
            "dinat_stage2_dilated",
            "dinat_stage3",
            "dinat_stage3_dilated",
        ],
        along: None,
    },
    Suite {
        name: "hunyuan_video",
        about: "HunyuanVideo-like: windows in time, height and width, all cut to a quarter",
        problems: &["hunyuan_video_quarter"],
        along: None,
    },
    MASKS,
    LARGE,
];

/// What masks that keep little cost, against full attention. The f64 reference of 16,384 tokens takes minutes.
pub(super) const MASKS: Suite = Suite {
    name: "masks",
    about: "masks that keep little of 16,384 tokens, and full attention over them",
    problems: &["long_full", "long_blocks", "long_blocks_of_heads", "long_documents"],
    along: None,
};

/// Problems that fill a GPU. A processor needs minutes for their references alone: they run only where they are named.
pub(super) const LARGE: Suite = Suite {
    name: "large",
    about: "what fills a GPU; the f64 references take minutes on few processor cores",
    problems: &[
        "prefill_4096",
        "prefill_4096_128",
        "prefill_4096_f16",
        "llama_prefill_4096",
        "llama_decode_32768",
        "na2d_13_large",
        "moe_prefill_2048",
        "matmul_4096",
        "matmul_4096_f16",
    ],
    along: None,
};
