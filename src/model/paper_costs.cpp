#include "model/paper_costs.h"

#include <cmath>

#include "base/error.h"

namespace moe {
namespace {

/// Widths may be fractions. Layers that are not dense have experts.
struct Shape {
  double layers, hidden, vocabulary, length;
  double dense_layers, dense_width;
  double shared, routed, chosen, width;
  double key_value_share = 1;  ///< key/value heads divided by query heads

  double ffn(double ffn_width) const { return 3 * hidden * ffn_width; }
  double moe_layers() const { return layers - dense_layers; }
  double attention() const { return layers * (2 + 2 * key_value_share) * hidden * hidden; }
  double dense() const { return dense_layers * ffn(dense_width); }
  double experts() const { return moe_layers() * (shared + routed) * ffn(width); }
  double activated_experts() const { return moe_layers() * (shared + chosen) * ffn(width); }
  double norms() const { return (2 * layers + 1) * hidden; }
  double embeddings() const { return 2 * vocabulary * hidden; }

  double total() const { return embeddings() + attention() + dense() + experts() + norms(); }
  double activated() const { return embeddings() + attention() + dense() + activated_experts() + norms(); }
  /// 6 A s + 12 L s^2 d
  double flops() const {
    const double multiplied = attention() + dense() + activated_experts() + vocabulary * hidden;
    return 6 * multiplied * length + 12 * layers * length * length * hidden;
  }
};

/// 8/3 d
double standard(double hidden) { return 8 * hidden / 3; }

Shape small(double shared, double routed, double chosen, double relative) {
  const double hidden = 1280;
  return {9, hidden, 8192, 2048, 0, 0, shared, routed, chosen, relative * standard(hidden)};
}

Shape moe_16b(double width, double dense_width) { return {28, 2048, 102400, 4096, 1, dense_width, 2, 64, 6, width}; }

Shape dense_model(double layers, double hidden, double vocabulary, double width, double key_value_share = 1) {
  return {layers, hidden, vocabulary, 4096, layers, width, 0, 0, 0, 0, key_value_share};
}

Shape large(double shared, double routed, double chosen, double width, double dense_width) {
  return {62, 4096, 102400, 4096, 1, dense_width, shared, routed, chosen, width};
}

class Figures {
 public:
  /// Figures of `model` follow, computed from `shape`.
  Figures& of(const char* model, const Shape& shape) {
    model_ = model;
    shape_ = shape;
    return *this;
  }
  Figures& total(double paper, int decimals, const char* note = "") {
    return add("total", paper, decimals, 1e-9 * shape_.total(), note);
  }
  Figures& activated(double paper, int decimals, const char* note = "") {
    return add("activated", paper, decimals, 1e-9 * shape_.activated(), note);
  }
  Figures& experts(double paper, int decimals) { return add("expert", paper, decimals, 1e-9 * shape_.experts(), ""); }
  Figures& activated_experts(double paper, int decimals) {
    return add("activated expert", paper, decimals, 1e-9 * shape_.activated_experts(), "");
  }
  Figures& flops(double paper, const char* note = "") { return add("FLOPs", paper, 1, 1e-12 * shape_.flops(), note); }

  std::vector<PaperFigure> all;

 private:
  Figures& add(const char* quantity, double paper, int decimals, double ours, const char* note) {
    all.push_back({model_, quantity, paper, decimals, ours, note});
    return *this;
  }

  const char* model_ = "";
  Shape shape_{};
};

}  // namespace

bool PaperFigure::agrees() const {
  const double unit = std::pow(10.0, -decimals);
  return std::abs(ours - paper) <= 0.01 * paper || std::abs(std::round(ours / unit) * unit - paper) < 0.5 * unit;
}

std::vector<PaperFigure> paper_figures() {
  const char* const exact = "with the exact width, 10922.7 for 11008";
  Figures f;
  f.of("Dense 0.2B", small(1, 0, 0, 1)).total(0.2, 1).activated(0.2, 1).flops(2.9);
  f.of("Hash Layer 2B", small(0, 16, 1, 1)).total(2.0, 1).activated(0.2, 1).flops(2.9);
  f.of("Switch 2B", small(0, 16, 1, 1)).total(2.0, 1).activated(0.2, 1).flops(2.9);
  f.of("GShard 2B", small(0, 16, 2, 1)).total(2.0, 1).activated(0.3, 1).flops(4.3);
  f.of("GShard x1.2", small(0, 16, 2, 1.2)).experts(2.3, 1).activated_experts(0.28, 2);
  f.of("GShard x1.5", small(0, 16, 2, 1.5)).experts(2.83, 2).activated_experts(0.35, 2).flops(5.8);
  f.of("Dense x4", small(4, 0, 0, 1)).experts(0.47, 2).activated_experts(0.47, 2);
  f.of("Dense x16", small(16, 0, 0, 1)).experts(1.89, 2).activated_experts(1.89, 2).flops(24.6);
  f.of("DeepSeekMoE 2B", small(1, 63, 7, 0.25)).total(2.0, 1).activated(0.3, 1).activated_experts(0.24, 2).flops(4.3);
  f.of("DeepSeekMoE 2B half", small(1, 63, 3, 0.25)).total(2.0, 1);
  const char* const real_widths = "with the checkpoint's widths, 1408 and 10944";
  f.of("DeepSeekMoE 16B", moe_16b(1408, 10944)).total(16.4, 1, real_widths).activated(2.8, 1, real_widths);
  f.of("DeepSeekMoE 16B", moe_16b(standard(2048) / 4, 2 * standard(2048)))
      .flops(74.4, "with the exact widths, 1365.3 and 10922.7; the checkpoint's give 75.8");
  f.of("DeepSeek 7B", dense_model(30, 4096, 102400, 11008)).total(6.9, 1).activated(6.9, 1);
  f.of("DeepSeek 7B", dense_model(30, 4096, 102400, standard(4096))).flops(183.5, exact);
  f.of("LLaMA2 7B", dense_model(32, 4096, 32000, 11008)).total(6.7, 1).activated(6.7, 1);
  f.of("LLaMA2 7B", dense_model(32, 4096, 32000, standard(4096))).flops(187.9, exact);
  f.of("DeepSeek 67B", dense_model(95, 8192, 102400, 22016, 8.0 / 64)).total(67.4, 1).activated(67.4, 1);
  f.of("DeepSeek 67B", dense_model(95, 8192, 102400, standard(8192)))
      .flops(2057.5, "counting as many key/value heads as query heads; its 8 of 64 give 1783");
  f.of("GShard 137B", large(0, 16, 2, standard(4096), 2 * standard(4096)))
      .total(136.5, 1, "136.5 takes a width near 10944")
      .activated(21.6, 1)
      .flops(572.7);
  f.of("DeepSeekMoE 145B", large(4, 128, 12, 1408, 16 * 1408)).total(144.6, 1).activated(22.2, 1).flops(585.6);
  f.of("DeepSeekMoE 142B half", large(2, 128, 6, 1408, 8 * 1408))
      .total(142.3, 1)
      .activated(12.2, 1, "not reproduced: the published shapes give 13.6, and the paper's FLOPs")
      .flops(374.6);
  return std::move(f.all);
}

}  // namespace moe
