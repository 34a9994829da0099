// One row per key: src/model/key_rows.h says how to add one.

#include "train/run_keys.h"

#include <cmath>

#include "base/words.h"

namespace moe {
namespace {

constexpr double kMostNumber = 1e6;  // limit for numbers without a limit of their own
constexpr int64_t kAnySeed = std::numeric_limits<int64_t>::max();

constexpr KeyField<RunConfig> hash_tables() {
  KeyInfo info;
  info.kind = KeyKind::word;
  info.words = [] { return std::vector<std::string>{"random", "balanced"}; };
  return {.info = info,
          .get = [](const RunConfig& run) -> SettingValue {
            return std::string(run.balanced_hash ? "balanced" : "random");
          },
          .set = [](RunConfig& run,
                    const SettingValue& value) { run.balanced_hash = std::get<std::string>(value) == "balanced"; }};
}

constexpr KeyField<OptimizerConfig> optimizers() {
  KeyInfo info;
  info.kind = KeyKind::word;
  info.words = [] {
    std::vector<std::string> names;
    for (const OptimizerMethod* method : kOptimizers) names.emplace_back(method->name);
    return names;
  };
  return {
      .info = info,
      .get = [](const OptimizerConfig& config) -> SettingValue { return config.kind; },
      .set = [](OptimizerConfig& config, const SettingValue& value) { config.kind = std::get<std::string>(value); }};
}

constexpr KeyRow<RunConfig> kRun[] = {
    row<RunConfig>(
        "run.dir", text<&RunConfig::run_dir>(),
        {.doc = "the run's folder", .also = "out out_dir output output_dir save_dir run_dir", .free_on_resume = true}),
    row<RunConfig>("run.on_end", text<&RunConfig::on_end>(),
                   {.doc = "a command of the shell that runs when the run has ended, also by a signal or an error. "
                           "MOE_RUN_DIR, MOE_STATE and MOE_STEP tell it about the run ([healthy.md](healthy.md)); "
                           "`\"\"`: none",
                    .also = "on_finish callback notify",
                    .free_on_resume = true}),
    row<RunConfig>("model.preset", text<&RunConfig::preset>(),
                   {.doc = "a model of the paper by name (`moe cost --help` lists them): its sizes and routing, which "
                           "other keys change; `\"\"`: none",
                    .also = "model_name"}),
    row<RunConfig>("model.from", text<&RunConfig::from>(),
                   {.doc = "a model that the run begins with: a folder, a GGUF file or a run. It has all sizes and the "
                           "routing; `\"\"`: random weights",
                    .also = "base_model model_name_or_path pretrained init_from"}),
    row<RunConfig>("model.method", text<&RunConfig::method_name>(),
                   {.doc = "a routing method by name, with its losses: the table in [routing.md](routing.md). It takes "
                           "the place of all of a preset's routing; other keys change it; `\"\"`: none",
                    .also = "router routing_method"}),
    row<RunConfig>("train.seed", integer<&RunConfig::seed>(0, kAnySeed),
                   {.doc = "of initial weights, data order, samples, the routers' draws and random hash tables",
                    .also = "random_seed manual_seed"}),
    // The model is known from here on.
    row<RunConfig>("train.hash_table", hash_tables(),
                   {.doc = "the tables of `hash`",
                    .shown_default = "the method's, else `\"random\"`",
                    .needs = &kNeedsHash,
                    .absent_without_need = true}),
};

constexpr KeyRow<DataConfig> kData[] = {
    row<DataConfig>(
        "data.train", text<&DataConfig::train>(),
        {.doc = "dataset folder (`moe data`), or a list `[\"A\", \"B\"]` or `[{path = \"A\", weight = 0.7}, ...]`; "
                "required, except with `--dry-run`",
         .also = "dataset data train_data data_dir data_path train_path"}),
    row<DataConfig>("data.valid", text<&DataConfig::valid>(),
                    {.doc = "dataset folder made with the same tokenizer; `\"\"`: no evaluation",
                     .also = "val validation val_data valid_data eval_data",
                     .free_on_resume = true}),
    row<DataConfig>("data.sequence_length", integer<&DataConfig::sequence_length>(1, kMostCount),
                    {.doc = "tokens of a row; at most `model.max_position_embeddings`",
                     .also = "seq_len seqlen seq_length max_seq_len max_length context context_length ctx block_size",
                     .required = true}),
    row<DataConfig>("data.rows_per_step", integer<&DataConfig::rows_per_step>(1, kMostCount),
                    {.doc = "rows of a step (the global batch)",
                     .also = "batch batch_size global_batch_size train_batch_size bs",
                     .required = true}),
    row<DataConfig>(
        "data.microbatch_rows", integer<&DataConfig::microbatch_rows>(1, kMostCount, {"auto", 0}),
        {.doc = "rows that pass through the model together; divides `data.rows_per_step`. `\"auto\"`: what "
                "fits and is predicted to be fastest (Memory, below); `balance.scope = \"microbatch\"` needs "
                "a number",
         .also = "microbatch micro_batch micro_batch_size microbatch_size per_device_batch_size "
                 "gradient_accumulation_steps grad_accum accumulate"}),
};

bool decays_in_steps(const Schedule& schedule) { return schedule.kind == ScheduleKind::step_decay; }
bool decays_at_the_end(const Schedule& schedule) { return schedule.kind == ScheduleKind::wsd; }
bool ends_at_a_ratio(const Schedule& schedule) {
  return schedule.kind == ScheduleKind::cosine || schedule.kind == ScheduleKind::wsd;
}

constexpr KeyRow<Schedule> kSchedule[] = {
    row<Schedule>("train.steps", integer<&Schedule::steps>(1, kMostCount),
                  {.doc = "S, the optimiser's updates",
                   .also = "max_steps num_steps n_steps iters max_iters iterations train_steps",
                   .shown_default = "*required*, or one of the next two"}),
    row<Schedule>("train.epochs", number<&Schedule::epochs>(0, kMostNumber),
                  {.doc = "as many steps as pass this often over `data.train`, rounded up; 0: not given",
                   .also = "epochs epoch num_epochs n_epochs max_epochs num_train_epochs"}),
    row<Schedule>("train.hours", number<&Schedule::hours>(0, kMostNumber),
                  {.doc = "as many steps as fit this time by the measured rate of ten steps; 0: not given",
                   .also = "hours max_hours time time_limit max_time"}),
    // The number of steps is known from here on.
    row<Schedule>("optimizer.learning_rate", number<&Schedule::peak>(0, kMostNumber),
                  {.doc = "the schedule's peak", .also = "lr rate max_lr peak_lr"}),
    row<Schedule>("schedule.kind",
                  word<&Schedule::kind, ScheduleKind::step_decay, ScheduleKind::constant, ScheduleKind::cosine,
                       ScheduleKind::wsd>(),
                  {.doc = "the shape of the rate over the steps: below",
                   .also = "schedule scheduler lr_scheduler lr_schedule lr_decay"}),
    row<Schedule>("schedule.warmup_fraction", number<&Schedule::warmup_fraction>(0, 1),
                  {.doc = "part of the steps that warm up", .also = "warmup_ratio"}),
    row<Schedule>("schedule.warmup_steps", integer<&Schedule::warmup_steps>(0, kMostCount),
                  {.doc = "W; where given it counts, not the fraction",
                   .also = "warmup warmup_iters",
                   .shown_default = "`warmup_fraction * steps`, rounded",
                   .derive =
                       [](Schedule& schedule, const Schedule&) {
                         schedule.warmup_steps = static_cast<int64_t>(
                             std::llround(schedule.warmup_fraction * static_cast<double>(schedule.steps)));
                       }}),
    row<Schedule>("schedule.decay_factor", number<&Schedule::decay_factor>(0, kMostNumber),
                  {.doc = "the rate is multiplied by it after 80% and after 90% of the steps",
                   .used_with = [] { return std::string("schedule.kind = step_decay"); },
                   .used = decays_in_steps}),
    row<Schedule>("schedule.final_ratio", number<&Schedule::final_ratio>(0, 1),
                  {.doc = "r, the last rate over the peak",
                   .also = "min_lr min_lr_ratio",
                   .used_with = [] { return std::string("schedule.kind = cosine or wsd"); },
                   .used = ends_at_a_ratio}),
    row<Schedule>("schedule.decay_fraction", number<&Schedule::decay_fraction>(0, 1),
                  {.doc = "part of the steps in which the rate falls",
                   .also = "decay_steps decay",
                   .used_with = [] { return std::string("schedule.kind = wsd"); },
                   .used = decays_at_the_end}),
};

/// "optimizer.kind = a or b": the optimisers that use a setting; empty if all do.
template <OptimizerSetting member>
std::string users_of() {
  std::vector<std::string> users;
  for (const OptimizerMethod* method : kOptimizers) {
    if (method->uses(member)) users.emplace_back(method->name);
  }
  return users.size() == kOptimizers.size() ? "" : "optimizer.kind = " + alternatives(users);
}

/// A row of a setting that optimisers list (OptimizerMethod::settings). The others refuse it.
template <OptimizerSetting member>
constexpr KeyRow<OptimizerConfig> setting(const char* key, double low, double high, KeyRest<OptimizerConfig> rest) {
  rest.used_with = users_of<member>;
  rest.used = [](const OptimizerConfig& config) { return find_optimizer(config.kind)->uses(member); };
  return row<OptimizerConfig>(key, number<member>(low, high), rest);
}

constexpr KeyRow<OptimizerConfig> kOptimizer[] = {
    row<OptimizerConfig>(
        "optimizer.kind", optimizers(),
        {.doc = "AdamW, or Muon for the matrices of the layers and AdamW for the rest: Optimisers, below",
         .also = "optim optimizer_type optimizer_name"}),
    setting<&OptimizerConfig::beta1>("optimizer.beta1", 0, 0.999999,
                                     {.doc = "AdamW's, of the mean", .also = "adam_beta1 betas"}),
    setting<&OptimizerConfig::beta2>("optimizer.beta2", 0, 0.999999,
                                     {.doc = "AdamW's, of the square", .also = "adam_beta2"}),
    setting<&OptimizerConfig::eps>("optimizer.eps", kLeastPositive, kMostNumber,
                                   {.doc = "added to the root of the mean square", .also = "adam_eps epsilon"}),
    setting<&OptimizerConfig::weight_decay>(
        "optimizer.weight_decay", 0, kMostNumber,
        {.doc = "on matrices (embedding, head and router among them), not on norms", .also = "wd"}),
    row<OptimizerConfig>("optimizer.clip", number<&OptimizerConfig::clip>(0, 1e30),
                         {.doc = "largest global gradient norm, balance losses included; 0: no clipping",
                          .also = "grad_clip max_grad_norm clip_grad clip_norm gradient_clipping"}),
    setting<&OptimizerConfig::momentum>(
        "optimizer.momentum", 0, 0.999999,
        {.doc = "the part of the mean gradient that a step keeps", .also = "muon_momentum"}),
};

bool learns_preferences(const StepConfig& step) { return step.objective == Objective::dpo; }
bool trains_experts(const StepConfig& step) { return step.parameters != TrainedPart::all; }

constexpr KeyRow<StepConfig> kStep[] = {
    row<StepConfig>("train.dtype", word<&StepConfig::dtype, DType::f32, DType::bf16>(),
                    {.doc = "storage of weights and activations; with `\"bf16\"` master weights are f32",
                     .also = "precision bf16 fp16 mixed_precision amp"}),
    row<StepConfig>("train.recompute", boolean_or_auto<&StepConfig::recompute, &StepConfig::choose_recompute>(),
                    {.doc = "run each layer's forward again in backward instead of keeping its activations: the same "
                            "bits, less memory. `\"auto\"`: where that is predicted to be faster (Memory, below)",
                     .also = "gradient_checkpointing activation_checkpointing grad_checkpoint remat",
                     .free_on_resume = true}),
    row<StepConfig>("train.objective", word<&StepConfig::objective, Objective::next_token, Objective::dpo>(),
                    {.doc = "what is learned: each next token, or with `\"dpo\"` to prefer one of two answers "
                            "([finetuning.md](finetuning.md))",
                     .also = "objective loss_type stage"}),
    row<StepConfig>("dpo.beta", number<&StepConfig::dpo_beta>(kLeastPositive, kMostNumber),
                    {.doc = "how much a change of the model's preference counts",
                     .also = "beta pref_beta",
                     .used_with = [] { return std::string("train.objective = dpo"); },
                     .used = learns_preferences}),
    row<StepConfig>(
        "train.parameters", word<&StepConfig::parameters, TrainedPart::all, TrainedPart::lora, TrainedPart::experts>(),
        {.doc =
             "what is trained: `\"all\"` parameters; `\"lora\"`: adapters beside the weights of `model.from`, "
             "which keep their values; or `\"experts\"`: the experts of a list alone ([finetuning.md](finetuning.md))",
         .also = "peft peft_type finetuning_type tuning train_type trainable_parameters"}),
    row<StepConfig>("train.experts", text<&StepConfig::experts_file>(),
                    {.doc = "the list of experts: the file that `moe eval experts` writes. With `lora` it says which "
                            "experts' adapters train",
                     .also = "expert_cfg expert_config",
                     .used_with = [] { return std::string("train.parameters = experts or lora"); },
                     .used = trains_experts}),
    row<StepConfig>("train.freeze", texts<&StepConfig::freeze>(),
                    {.doc = "parameters that keep their values, for instance `[\"embed\", \"layers.0-3.attention\"]`: "
                            "Frozen parameters, below",
                     .also = "frozen freeze_layers frozen_layers trainable"}),
    row<StepConfig>("train.rebuild",
                    boolean_or_word<&StepConfig::rebuild, Rebuild::nothing, Rebuild::all, Rebuild::norms>(),
                    {.doc = "make again in backward what one norm or one product makes (the results of norms, queries, "
                            "keys and values, gate and up of dense FFNs) instead of keeping it: the same bits, a third "
                            "less memory for activations, a few percent more time. `\"norms\"`: the results of norms "
                            "alone, which are cheap to make. No effect with `train.recompute`",
                     .also = "selective_checkpointing selective_recompute",
                     .free_on_resume = true}),
    // The model and the schedule are known from here on.
    row<StepConfig>(
        "train.second_stage", integer<&StepConfig::second_stage>(1, kMostCount),
        {.doc = "the first step of StableMoE's second stage. With up to 10 steps that is step 1: nothing is "
                "learned in a first stage, and the light router assigns as it was drawn",
         .shown_default = "a tenth of the steps, rounded up",
         .needs = &kNeedsStable,
         .absent_without_need = true}),
};

constexpr KeyField<LoraConfig> lora_base() {
  KeyInfo info;
  info.kind = KeyKind::word;
  info.words = lora_base_types;
  return {
      .info = info,
      .get = [](const LoraConfig& lora) -> SettingValue { return std::string(name(lora.base.value_or(DType::f32))); },
      .set =
          [](LoraConfig& lora, const SettingValue& value) {
            for (const StorageType& type : kStorageTypes) {
              if (std::get<std::string>(value) == type.name) lora.base = type.dtype;
            }
          }};
}

constexpr KeyRow<LoraConfig> kLora[] = {
    row<LoraConfig>(
        "lora.rank", integer<&LoraConfig::rank>(1, kMostWidth),
        {.doc = "r: the rows of A and the columns of B; needs train.parameters = lora, like all of `[lora]`",
         .also = "r lora_r lora_rank"}),
    row<LoraConfig>("lora.alpha", number<&LoraConfig::alpha>(kLeastPositive, kMostNumber),
                    {.doc = "what an adapter adds is multiplied by alpha / r", .also = "lora_alpha"}),
    row<LoraConfig>("lora.dropout", number<&LoraConfig::dropout>(0, 0.999),
                    {.doc = "the part of A's inputs that is set to 0 in training", .also = "lora_dropout"}),
    row<LoraConfig>(
        "lora.targets", texts<&LoraConfig::targets>(),
        {.doc = "the linear maps with adapters: `attention` (q, k, v and output), `experts` (gate, up and down "
                "of each routed expert), `shared` (of the shared experts), `dense` (of dense FFNs), `head`",
         .also = "lora_target target_modules lora_target_modules modules",
         .shown_default = "all that the model has, except `head`"}),
    row<LoraConfig>("lora.rank_experts", integer<&LoraConfig::rank_experts>(1, kMostWidth),
                    {.doc = "r of routed experts, which are many",
                     .also = "expert_rank rank_pattern",
                     .shown_default = "`rank`",
                     .derive = [](LoraConfig& lora, const LoraConfig&) { lora.rank_experts = lora.rank; }}),
    row<LoraConfig>(
        "lora.base", lora_base(),
        {.doc = "storage of the model's own matrices, which keep their values: `train.dtype`, or blocks of a "
                "few bits (Quantised weights, in [finetuning.md](finetuning.md))",
         .also = "load_in_4bit load_in_8bit quantization qlora bnb_4bit_quant_type",
         .shown_default = "`train.dtype`"}),
};

constexpr KeyRow<EvaluationConfig> kEvaluation[] = {
    row<EvaluationConfig>("eval.every", integer<&EvaluationConfig::every>(0, kMostCount),
                          {.doc = "steps between evaluations; 0: only after the last step",
                           .also = "eval_every eval_steps eval_interval val_every",
                           .free_on_resume = true}),
    row<EvaluationConfig>("eval.batch_rows", integer<&EvaluationConfig::batch_rows>(1, kMostCount, {"auto", 0}),
                          {.doc = "rows evaluated together; does not change the result. `\"auto\"`: as many as "
                                  "`data.microbatch_rows`",
                           .also = "eval_batch_size",
                           .free_on_resume = true}),
    row<EvaluationConfig>("eval.every_nth", integer<&EvaluationConfig::every_nth>(1, kMostCount),
                          {.doc = "evaluates every n-th document of `data.valid` alone", .free_on_resume = true}),
};

constexpr KeyRow<CheckpointConfig> kCheckpoint[] = {
    row<CheckpointConfig>("checkpoint.every", integer<&CheckpointConfig::every>(0, kMostCount),
                          {.doc = "steps between checkpoints; 0: only after the last step",
                           .also = "save_every save_steps save_interval checkpoint_every ckpt_every",
                           .free_on_resume = true}),
    row<CheckpointConfig>("checkpoint.minutes", number<&CheckpointConfig::minutes>(0, kMostNumber),
                          {.doc = "the most minutes between checkpoints; 0: no limit",
                           .also = "save_minutes minutes",
                           .free_on_resume = true}),
    row<CheckpointConfig>(
        "checkpoint.keep_last", integer<&CheckpointConfig::keep_last>(1, kMostCount),
        {.doc = "the newest checkpoints that are kept", .also = "save_total_limit keep", .free_on_resume = true}),
    row<CheckpointConfig>("checkpoint.keep_every", integer<&CheckpointConfig::keep_every>(0, kMostCount),
                          {.doc = "besides, those whose step is a multiple of this; 0: none", .free_on_resume = true}),
};

constexpr KeyRow<SampleConfig> kSample[] = {
    row<SampleConfig>(
        "sample.prompts", texts<&SampleConfig::prompts>(),
        {.doc = "continued on standard output before the first and after the last step; where data.train is of "
                "conversations, what a user says, and answered",
         .also = "prompt prompts",
         .free_on_resume = true}),
    row<SampleConfig>("sample.every", integer<&SampleConfig::every>(0, kMostCount),
                      {.doc = "and every so many steps; 0: not", .also = "sample_every", .free_on_resume = true}),
    row<SampleConfig>("sample.max_new_tokens", integer<&SampleConfig::max_new_tokens>(1, kMostCount),
                      {.doc = "the most tokens of a sample", .also = "max_tokens", .free_on_resume = true}),
    row<SampleConfig>("sample.temperature", number<&SampleConfig::temperature>(0, kMostNumber),
                      {.doc = "0: always the most likely token", .free_on_resume = true}),
};

constexpr KeyRow<LogConfig> kLog[] = {
    row<LogConfig>("log.tensorboard", boolean<&LogConfig::tensorboard>(),
                   {.doc = "write event files for TensorBoard into the run's folder",
                    .also = "tensorboard use_tensorboard report_to",
                    .free_on_resume = true}),
    row<LogConfig>("log.counts_every", integer<&LogConfig::counts_every>(0, kMostCount),
                   {.doc = "steps between lines of log.jsonl that have the tokens of every expert, and between "
                           "histograms of load; 0: none",
                    .also = "log_every log_interval",
                    .free_on_resume = true}),
};

constexpr KeyRow<HealthConfig> kHealth[] = {
    row<HealthConfig>("health.stop_on", texts<&HealthConfig::stop_on>(),
                      {.doc = "warnings that end the run, after a checkpoint: `uniform`, `spike`, `gradient`, `dead`, "
                              "`load`, `collapse` ([healthy.md](healthy.md))",
                       .also = "stop_on early_stopping",
                       .free_on_resume = true}),
};

}  // namespace

std::span<const KeyRow<RunConfig>> run_keys() { return kRun; }
std::span<const KeyRow<DataConfig>> data_keys() { return kData; }
std::span<const KeyRow<Schedule>> schedule_keys() { return kSchedule; }
std::span<const KeyRow<OptimizerConfig>> optimizer_keys() { return kOptimizer; }
std::span<const KeyRow<StepConfig>> step_keys() { return kStep; }
std::span<const KeyRow<LoraConfig>> lora_keys() { return kLora; }
std::span<const KeyRow<EvaluationConfig>> evaluation_keys() { return kEvaluation; }
std::span<const KeyRow<CheckpointConfig>> checkpoint_keys() { return kCheckpoint; }
std::span<const KeyRow<SampleConfig>> sample_keys() { return kSample; }
std::span<const KeyRow<LogConfig>> log_keys() { return kLog; }
std::span<const KeyRow<HealthConfig>> health_keys() { return kHealth; }

}  // namespace moe
