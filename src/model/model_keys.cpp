// One row per key: src/model/key_rows.h says how to add one.

#include <algorithm>
#include <cmath>

#include "model/keys.h"

namespace moe {
namespace {

using Model = ModelConfig;

void as_many_as_query_heads(Model& model, const Model& before) {
  if (model.num_attention_heads != before.num_attention_heads) model.num_key_value_heads = model.num_attention_heads;
}

/// 0 if it does not divide; validate() refuses that.
void divided_by_heads(Model& model, const Model&) {
  const bool divides = model.num_attention_heads > 0 && model.hidden_size % model.num_attention_heads == 0;
  model.head_dim = divides ? model.hidden_size / model.num_attention_heads : 0;
}

void k_where_experts_choose(Model& model, const Model&) {
  if (!model.routing_row().experts_choose) return;
  model.capacity_factor = static_cast<double>(model.num_experts_per_tok);
}

/// The value that trained best at widths from 128 to 1024 (docs/training.md), to four decimals for readability.
void by_the_width(Model& model, const Model&) {
  constexpr double kLargest = 0.04;
  if (model.hidden_size <= 0) return;
  const double by_width = std::round(1e4 / std::sqrt(static_cast<double>(model.hidden_size))) / 1e4;
  model.initializer_range = std::min(kLargest, by_width);
}

constexpr KeyField<Model> routing_methods() {
  KeyInfo info;
  info.kind = KeyKind::word;
  info.words = [] {
    std::vector<std::string> names;
    for (const RoutingRow& row : routing_rows()) names.emplace_back(row.name);
    return names;
  };
  return {.info = info,
          .get = [](const Model& model) -> SettingValue { return std::string(model.routing_row().name); },
          .set =
              [](Model& model, const SettingValue& value) {
                for (const RoutingRow& row : routing_rows()) {
                  if (std::get<std::string>(value) == row.name) model.routing = row.method;
                }
              }};
}

constexpr KeyRow<Model> kRows[] = {
    row<Model>("model.vocab_size", integer<&Model::vocab_size>(1, kMostCount),
               {.doc = "rows of embedding and head; at least the dataset's",
                .also = "vocab vocabulary n_vocab",
                .shown_default = "the dataset's",
                .json = JsonForm::required}),
    row<Model>("model.hidden_size", integer<&Model::hidden_size>(1, kMostWidth),
               {.doc = "d",
                .also = "dim d d_model n_embd hidden hidden_dim embed_dim width model_dim",
                .required = true,
                .json = JsonForm::required}),
    row<Model>("model.num_hidden_layers", integer<&Model::num_hidden_layers>(1, kMostParts),
               {.doc = "L",
                .also = "layers n_layer n_layers num_layers depth blocks",
                .required = true,
                .json = JsonForm::required}),
    row<Model>(
        "model.num_attention_heads", integer<&Model::num_attention_heads>(1, kMostParts),
        {.doc = "query heads", .also = "heads n_head n_heads num_heads", .required = true, .json = JsonForm::required}),
    row<Model>("model.num_key_value_heads", integer<&Model::num_key_value_heads>(1, kMostParts),
               {.doc = "key and value heads; divides the query heads",
                .also = "kv_heads n_kv_heads num_kv_heads",
                .shown_default = "`model.num_attention_heads`",
                .json = JsonForm::always,
                .derive = as_many_as_query_heads}),
    row<Model>("model.head_dim", integer<&Model::head_dim>(1, kMostHeadSize),
               {.doc = "size of a head; even. The default must divide",
                .also = "head_size",
                .shown_default = "`hidden_size / num_attention_heads`",
                .json = JsonForm::unless_derived,
                .derive = divided_by_heads}),
    row<Model>("model.n_routed_experts", integer<&Model::n_routed_experts>(0, kMostParts),
               {.doc = "E; 0: every layer is dense",
                .also = "experts n_experts num_experts num_local_experts routed_experts",
                .json = JsonForm::with_experts}),
    row<Model>("model.n_shared_experts", integer<&Model::n_shared_experts>(0, kMostParts),
               {.doc = "K_s, beside the routed ones",
                .also = "shared_experts num_shared_experts",
                .json = JsonForm::unless_zero}),
    // A run file's model.method is applied here.
    row<Model>("model.num_experts_per_tok", integer<&Model::num_experts_per_tok>(0, kMostParts),
               {.doc = "K, from 1 to E where there are experts; of a method that fixes it, no other",
                .also = "top_k topk k experts_per_token experts_per_tok active_experts",
                .shown_default = "0, or the method's",
                .json = JsonForm::with_experts}),
    row<Model>("model.moe_intermediate_size", integer<&Model::moe_intermediate_size>(0, kMostWidth),
               {.doc = "width of one expert; needed with experts",
                .also = "expert_dim expert_width expert_size moe_dim",
                .json = JsonForm::with_experts}),
    row<Model>("model.intermediate_size", integer<&Model::intermediate_size>(0, kMostWidth),
               {.doc = "width of the dense layers' FFN; needed with dense layers",
                .also = "d_ff ffn_dim ff_dim mlp_dim ffn_hidden_size",
                .json = JsonForm::always}),
    row<Model>(
        "model.first_k_dense_replace", integer<&Model::first_k_dense_replace>(0, kMostCount),
        {.doc = "the first layers that are dense", .also = "dense_layers n_dense_layers", .json = JsonForm::always}),
    row<Model>("model.moe_layer_freq", integer<&Model::moe_layer_freq>(1, kMostCount),
               {.doc = "layer i is MoE when i is not below `model.first_k_dense_replace` and divisible by this",
                .json = JsonForm::always}),
    row<Model>("model.max_position_embeddings", integer<&Model::max_position_embeddings>(1, kMostCount),
               {.doc = "the longest row or text", .also = "max_positions n_positions n_ctx", .json = JsonForm::always}),
    row<Model>("model.routing", routing_methods(),
               {.doc = "who chooses, and by what: [routing.md](routing.md)",
                .needs = &kNeedsExperts,
                .told = Told::where_needed,
                .json = JsonForm::unless_default,
                .own = true}),
    row<Model>("model.scoring_func", word<&Model::scoring_func, Scoring::softmax, Scoring::sigmoid>(),
               {.doc = "of a token's logits over the experts",
                .needs = &kNeedsTopk,
                .told = Told::where_needed,
                .json = JsonForm::always,
                .own = true}),
    row<Model>("model.topk_method",
               word<&Model::topk_method, TopkMethod::greedy, TopkMethod::group_limited_greedy, TopkMethod::noaux_tc>(),
               {.doc = "`group_limited_greedy` is device-limited; `noaux_tc` has a bias for the choice, node-limited",
                .needs = &kNeedsTopk,
                .told = Told::where_needed,
                .json = JsonForm::unless_default,
                .own = true}),
    row<Model>("model.n_group", integer<&Model::n_group>(1, 32),
               {.doc = "D groups of experts", .needs = &kNeedsGroups, .json = JsonForm::with_groups, .own = true}),
    row<Model>("model.topk_group", integer<&Model::topk_group>(1, 32),
               {.doc = "M, the groups that a token may use",
                .needs = &kNeedsGroups,
                .json = JsonForm::with_groups,
                .own = true}),
    row<Model>("model.norm_topk_prob", boolean<&Model::norm_topk_prob>(),
               {.doc = "gates of the chosen experts are divided by their sum (K > 1)",
                .needs = &kNeedsTopk,
                .json = JsonForm::always}),
    row<Model>(
        "model.routed_scaling_factor", number<&Model::routed_scaling_factor>(1e-6, 1e6),
        {.doc = "the gates are times this", .needs = &kNeedsTopk, .json = JsonForm::unless_default, .own = true}),
    row<Model>("model.router_jitter", number<&Model::router_jitter>(0, 1),
               {.doc = "j: the router's input is times U(1 - j, 1 + j) in training",
                .needs = &kNeedsTopk,
                .json = JsonForm::unless_default,
                .own = true}),
    row<Model>("model.second_expert_threshold", number<&Model::second_expert_threshold>(0, 1),
               {.doc = "t: of two experts the second stays with probability min(1, g2 / t) in training; 0: always",
                .needs = &kNeedsTopk,
                .json = JsonForm::unless_default,
                .own = true}),
    row<Model>("model.capacity_factor", number<&Model::capacity_factor>(0, 999),
               {.doc = "room of an expert, in fair shares of a row's tokens; 0: no token is dropped. With "
                       "`expert_choice`: K, the experts per token on average",
                .needs = &kNeedsCapacity,
                .json = JsonForm::unless_default,
                .own = true,
                .derive = k_where_experts_choose}),
    row<Model>("model.eval_capacity_factor", number<&Model::eval_capacity_factor>(0, 999),
               {.doc = "the same in evaluation", .needs = &kNeedsTopk, .json = JsonForm::unless_default, .own = true}),
    row<Model>(
        "model.tie_word_embeddings", boolean<&Model::tie_word_embeddings>(),
        {.doc = "the head is the embedding", .also = "tied tie_embeddings weight_tying", .json = JsonForm::always}),
    row<Model>(
        "model.rms_norm_eps", number<&Model::rms_norm_eps>(0, 1),
        {.doc = "added to the mean square in every norm", .also = "norm_eps layer_norm_eps", .json = JsonForm::always}),
    row<Model>("model.rope_theta", number<&Model::rope_theta>(1e-6, 1e15),
               {.doc = "base of the rotary positions", .also = "theta rope_base", .json = JsonForm::always}),
    row<Model>("train.init_std", number<&Model::initializer_range>(0, 100),
               {.doc = "standard deviation of every matrix at the start; norms start at 1. The paper's is 0.006",
                .also = "initializer_range init",
                .shown_default = "`1 / sqrt(model.hidden_size)` to four decimals, at most 0.04",
                .json = JsonForm::always,
                .field = "initializer_range",
                .derive = by_the_width}),
    row<Model>("", integer<&Model::shared_expert_intermediate_size>(0, kMostWidth),
               {.json = JsonForm::unless_default, .field = "shared_expert_intermediate_size", .own = true}),
    row<Model>("", number<&Model::aux_loss_alpha>(0, 1e6), {.json = JsonForm::always, .field = "aux_loss_alpha"}),
    row<Model>("", boolean<&Model::seq_aux>(), {.json = JsonForm::always, .field = "seq_aux"}),
};

}  // namespace

std::span<const KeyRow<ModelConfig>> model_keys() { return kRows; }

}  // namespace moe
