//! What the page of `index.html` calls: a device, calls of any operator on it, and the suite of cases.

use std::collections::BTreeMap;

use js_sys::{Array, Float32Array, Int32Array, Object, Reflect};
use tilewise::any::{AnyProblem, AnySpec};
use tilewise::gpu::device::AdapterChoice;
use tilewise::tensor::{Dtype, HostTensor, TensorDescs};
use tilewise::{Engine, EngineOptions};
use wasm_bindgen::prelude::*;

/// A device of the browser's, and what runs on it.
#[wasm_bindgen]
pub struct Page {
    engine: Engine,
}

#[wasm_bindgen]
impl Page {
    /// Opens a device.
    pub async fn open(low_power: bool) -> Result<Page, JsError> {
        let mut options = EngineOptions::default();
        if low_power {
            options.adapter = AdapterChoice::LowPower;
        }
        Ok(Self { engine: Engine::open_async(&options).await? })
    }

    /// What the browser tells of the device.
    pub fn adapter(&self) -> String {
        self.engine.adapter().name.clone()
    }

    /// Runs a call of any operator: the spec as JSON, tensors as `{name: {shape: [..], data: Float32Array}}`, i32 ones
    /// as `Int32Array`. Gives the outputs in the same form.
    pub async fn run(&self, spec: &str, tensors: Object) -> Result<Object, JsError> {
        let spec: AnySpec = serde_json::from_str(spec)?;
        let inputs = from_js(&tensors)?;
        let descs: TensorDescs =
            inputs.iter().map(|(name, host)| (name.clone(), host.desc())).collect();
        let outputs = match spec.ask(&descs)? {
            AnyProblem::Attention(it) => self.engine.run_async(&*it, None, &inputs).await,
            AnyProblem::AttentionMerge(it) => self.engine.run_async(&*it, None, &inputs).await,
            AnyProblem::Neighborhood(it) => self.engine.run_async(&*it, None, &inputs).await,
            AnyProblem::NeighborhoodScores(it) => self.engine.run_async(&*it, None, &inputs).await,
            AnyProblem::NeighborhoodAggregate(it) => {
                self.engine.run_async(&*it, None, &inputs).await
            }
            AnyProblem::Moe(it) => self.engine.run_async(&*it, None, &inputs).await,
            AnyProblem::Matmul(it) => self.engine.run_async(&*it, None, &inputs).await,
        };
        to_js(&outputs?)
    }
}

#[cfg(feature = "verify")]
#[wasm_bindgen]
impl Page {
    /// Names of the cases that fit one of some patterns, separated by commas; of the suite's core where there is none.
    pub fn cases(patterns: &str) -> Result<Vec<String>, JsError> {
        let mut found = Vec::new();
        for pattern in patterns.split(',').filter(|pattern| !pattern.is_empty()) {
            let fitting = tilewise::verify::find_cases(pattern);
            if fitting.is_empty() {
                return Err(JsError::new(&format!("no case is named {pattern}")));
            }
            found.extend(fitting);
        }
        if found.is_empty() {
            found.extend(tilewise::verify::cases().into_iter().filter(|case| case.core));
        }
        Ok(found.into_iter().map(|case| case.name).collect())
    }

    /// Runs a case and judges it by its reference: how much of its tolerance was taken at most, in percent.
    pub async fn verify(&self, name: &str) -> Result<f64, JsError> {
        let case = tilewise::verify::find_cases(name).into_iter().next();
        let case = case.ok_or_else(|| JsError::new(&format!("no case is named {name}")))?;
        match tilewise::verify::run_case_async(&self.engine, &case, None).await {
            Ok(report) => Ok(100.0 * report.worst_share()),
            Err(failure) => Err(JsError::new(&failure.to_string())),
        }
    }
}

fn from_js(tensors: &Object) -> Result<BTreeMap<String, HostTensor>, JsError> {
    let mut inputs = BTreeMap::new();
    for entry in Object::entries(tensors).iter() {
        let entry: Array = entry.unchecked_into();
        let name = entry.get(0).as_string().unwrap_or_default();
        let field = |key: &str| Reflect::get(&entry.get(1), &key.into());
        let missing = |_| JsError::new(&format!("{name}: expected {{shape, data}}"));
        let shape = Array::from(&field("shape").map_err(missing)?);
        let shape = shape.iter().map(|extent| extent.as_f64().unwrap_or(0.0) as u64).collect();
        let data = field("data").map_err(missing)?;
        let (dtype, bytes) = if let Some(floats) = data.dyn_ref::<Float32Array>() {
            (Dtype::F32, floats.to_vec().iter().flat_map(|x| x.to_le_bytes()).collect())
        } else if let Some(integers) = data.dyn_ref::<Int32Array>() {
            (Dtype::I32, integers.to_vec().iter().flat_map(|x| x.to_le_bytes()).collect())
        } else {
            let message = format!("{name}'s data: expected Float32Array or Int32Array");
            return Err(JsError::new(&message));
        };
        inputs.insert(name, HostTensor { dtype, shape, bytes });
    }
    Ok(inputs)
}

fn to_js(outputs: &BTreeMap<String, HostTensor>) -> Result<Object, JsError> {
    let tensors = Object::new();
    for (name, host) in outputs {
        let values: Vec<f32> = host.to_f64().iter().map(|value| *value as f32).collect();
        let shape: Array = host.shape.iter().map(|extent| JsValue::from(*extent as f64)).collect();
        let tensor = Object::new();
        let set = |object: &Object, key: &str, value: &JsValue| {
            Reflect::set(object, &key.into(), value)
                .map_err(|_| JsError::new(&format!("{key} was not set")))
        };
        set(&tensor, "shape", &shape)?;
        set(&tensor, "data", &Float32Array::from(values.as_slice()))?;
        set(&tensors, name, &tensor)?;
    }
    Ok(tensors)
}
