#include "measure/step.h"

#include <algorithm>

#include "base/clock.h"
#include "base/free_memory.h"
#include "base/log.h"
#include "base/median.h"
#include "base/random.h"
#include "measure/machine.h"

namespace moe {
namespace {

// Rows with one document each, random ids, and a target for every token.
Batch random_batch(const StepWork& work, uint64_t number) {
  const Random random(1, number);
  const int64_t length = work.step.sequence_length, rows = work.step.microbatch_tokens / length;
  const auto vocabulary = static_cast<uint64_t>(work.model.vocab_size);
  Batch batch;
  batch.rows = rows;
  batch.sequence_length = length;
  const int64_t tokens = work.step.microbatch_tokens;
  for (auto* values : {&batch.tokens, &batch.targets, &batch.positions, &batch.segment_start, &batch.segment_id}) {
    values->resize(static_cast<size_t>(tokens));
  }
  batch.num_tokens = batch.num_targets = tokens;
  batch.segment_tokens.assign(static_cast<size_t>(rows), static_cast<int32_t>(length));
  for (size_t i = 0; i < batch.tokens.size(); ++i) {
    const auto row = static_cast<int64_t>(i) / length;
    const auto next = static_cast<uint64_t>(row * (length + 1) + static_cast<int64_t>(i) % length);
    batch.tokens[i] = static_cast<int32_t>(random.below(next, vocabulary));
    batch.targets[i] = static_cast<int32_t>(random.below(next + 1, vocabulary));
    batch.positions[i] = static_cast<int32_t>(static_cast<int64_t>(i) % length);
    batch.segment_start[i] = static_cast<int32_t>(row * length);
    batch.segment_id[i] = static_cast<int32_t>(row);
  }
  return batch;
}

StepTime one_step(TrainingStep& run, Device& device, const std::vector<Batch>& batches, int64_t number,
                  StepReport& report) {
  const double start = steady_seconds();
  const double cpu = cpu_seconds();
  run.accumulate([&](int64_t index) { return batches[static_cast<size_t>(index)]; }, number);
  device.synchronize();
  const double middle = steady_seconds();
  report = run.update(number, 1e-4);
  const double end = steady_seconds();
  return {.step = end - start, .gradients = middle - start, .update = end - middle, .cpu = cpu_seconds() - cpu};
}

}  // namespace

double StepTimes::median(double StepTime::*value) const {
  std::vector<double> values;
  for (const StepTime& time : times) values.push_back(time.*value);
  return moe::median(std::move(values));
}

StepTimes measure_steps(const StepWork& work, const MemoryPlan& plan, Device& device, Backend& backend,
                        ThreadPool& pool) {
  StepTimes measured;
  const auto product = [&] {
    return work.product == 0 ? 0.0 : measure_product(backend, device, work.step.dtype, work.product, 2);
  };
  measured.product_rate = product();
  {
    RecordingBackend recorder(backend, device);
    recorder.record(false);
    TrainingStep training(work.model, work.step, plan, device, recorder);
    training.initialize(1, 0.006, {}, &pool);
    const int all_steps = work.warm_up + work.steps + 1;
    for (int i = 0; i < all_steps; ++i) {
      std::vector<Batch> batches;
      for (int64_t b = 0; b < work.step.microbatches; ++b) {
        batches.push_back(random_batch(work, static_cast<uint64_t>(i * work.step.microbatches + b)));
      }
      show_status(fmt::format("step {} of {}", i + 1, all_steps));
      const bool last = i == all_steps - 1;
      recorder.record(last);
      const StepTime time = one_step(training, device, batches, i + 1, measured.report);
      if (i >= work.warm_up && !last) measured.times.push_back(time);
    }
    clear_status();
    measured.ops = recorder.records();
    measured.allocated = device.allocated_bytes();
  }
  measured.peak_resident = peak_resident_bytes();
  measured.product_rate = std::max(measured.product_rate, product());
  return measured;
}

}  // namespace moe
