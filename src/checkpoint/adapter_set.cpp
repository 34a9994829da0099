#include "checkpoint/adapter_set.h"

#include <algorithm>
#include <cfloat>
#include <cmath>
#include <set>

#include "base/error.h"
#include "checkpoint/open_model.h"
#include "tensor/finite.h"

namespace moe {
namespace {

/// The places of a parameter's matrices, and of the slices of their rows. A vector has no such layout.
struct Layout {
  explicit Layout(const Parameter& parameter)
      : experts(parameter.shape.rank() == 3 ? parameter.shape[0] : 1),
        rows(parameter.shape[parameter.shape.rank() - 2]),
        columns(parameter.shape[parameter.shape.rank() - 1]) {
    if (parameter.slices.empty()) ends = {rows};
    for (const ParameterSlice& slice : parameter.slices) ends.push_back((ends.empty() ? 0 : ends.back()) + slice.rows);
  }
  int64_t slices() const { return static_cast<int64_t>(ends.size()); }
  int64_t begin(int64_t slice) const { return slice == 0 ? 0 : ends[static_cast<size_t>(slice) - 1]; }
  int64_t slice_of(int64_t row) const { return std::upper_bound(ends.begin(), ends.end(), row) - ends.begin(); }

  int64_t experts, rows, columns;
  std::vector<int64_t> ends;  // of the slices
};

int64_t rank_of(const std::vector<AdapterSlice>& slices) {
  int64_t most = 0;
  for (const AdapterSlice& slice : slices) most = std::max(most, slice.rank);
  return most;
}

/// Refuses a factor with which the adapter's own has no meaning as a float.
void check_scale(const ChosenAdapter& one, const AdapterFile& file, size_t parameters) {
  const auto fits = [](double value) { return std::abs(value) <= FLT_MAX && static_cast<float>(value) != 0; };
  bool right = fits(one.scale);
  for (size_t i = 0; i < parameters && right; ++i) {
    for (const AdapterSlice& slice : file.slices(i)) {
      right = right && (slice.rank == 0 || slice.scale == 0 || fits(one.scale * double{slice.scale}));
    }
  }
  if (right) return;
  fail("{}: its change times {} is not a number that 32 bits can hold; choose another scale", one.folder.string(),
       one.scale);
}

}  // namespace

AdapterSet::AdapterSet(const std::vector<ChosenAdapter>& chosen, const ModelConfig& base)
    : table_(parameter_table(base)) {
  for (const ChosenAdapter& one : chosen) {
    files_.emplace_back(one.folder, base);
    if (one.scale == 0) {
      files_.pop_back();
      continue;
    }
    check_scale(one, files_.back(), table_.size());
    scales_.push_back(static_cast<float>(one.scale));
  }
}

int64_t AdapterSet::rank(size_t parameter) const {
  int64_t sum = 0;
  for (const AdapterFile& file : files_) sum += rank_of(file.slices(parameter));
  return sum;
}

float AdapterSet::scale(size_t parameter) const {
  std::set<float> scales;
  for (size_t f = 0; f < files_.size(); ++f) {
    for (const AdapterSlice& slice : files_[f].slices(parameter)) {
      if (slice.rank > 0) scales.insert(slice.scale * scales_[f]);
    }
  }
  return scales.size() == 1 ? *scales.begin() : 1.0f;
}

bool AdapterSet::changes(size_t parameter) const { return rank(parameter) > 0; }

AdapterShapes AdapterSet::shapes() const {
  AdapterShapes shapes;
  for (size_t i = 0; i < table_.size(); ++i) {
    if (const int64_t sum = rank(i); sum > 0) shapes[{table_[i].layer, table_[i].role}] = {sum, scale(i)};
  }
  return shapes;
}

void AdapterSet::fill(size_t parameter, std::vector<float>& a, std::vector<float>& b) const {
  const Layout layout(table_[parameter]);
  const int64_t all = rank(parameter);
  const float common = scale(parameter);
  a.assign(static_cast<size_t>(layout.experts * layout.slices() * all * layout.columns), 0.0f);
  b.assign(static_cast<size_t>(layout.experts * layout.rows * all), 0.0f);
  int64_t first = 0;  // rank of this file
  for (size_t f = 0; f < files_.size(); ++f) {
    const std::vector<AdapterSlice>& slices = files_[f].slices(parameter);
    for (size_t i = 0; i < slices.size(); ++i) {
      const AdapterSlice& one = slices[i];
      const auto expert = static_cast<int64_t>(i) / layout.slices(), slice = static_cast<int64_t>(i) % layout.slices();
      for (int64_t k = 0; k < one.rank; ++k) {
        one.read_a(k, a.data() + ((expert * layout.slices() + slice) * all + first + k) * layout.columns);
      }
      for (int64_t row = layout.begin(slice); one.rank > 0 && row < layout.ends[static_cast<size_t>(slice)]; ++row) {
        float* const to = b.data() + (expert * layout.rows + row) * all + first;
        one.read_b(row - layout.begin(slice), to);
        const float factor = one.scale * scales_[f];
        for (int64_t k = 0; k < one.rank && factor != common; ++k) to[k] *= factor;
      }
    }
    first += rank_of(slices);
  }
}

void AdapterSet::add_change(size_t parameter, int64_t begin, int64_t count, float* values) const {
  if (!changes(parameter)) return;
  const Layout layout(table_[parameter]);
  std::vector<float> a, b, change;
  for (size_t f = 0; f < files_.size(); ++f) {
    const std::vector<AdapterSlice>& slices = files_[f].slices(parameter);
    if (slices.empty()) continue;  // this file does not change the parameter; another one does
    int64_t read = -1;             // the slice that `a` holds
    for (int64_t at = begin; at < begin + count;) {
      const int64_t row = at / layout.columns, column = at % layout.columns;
      const int64_t here = std::min(layout.columns - column, begin + count - at);
      const int64_t slice = layout.slice_of(row % layout.rows), index = row / layout.rows * layout.slices() + slice;
      const AdapterSlice& one = slices[static_cast<size_t>(index)];
      float* const to = values + (at - begin);
      at += here;
      if (one.rank == 0) continue;
      if (index != read) {
        a.resize(static_cast<size_t>(one.rank * layout.columns));
        for (int64_t k = 0; k < one.rank; ++k) one.read_a(k, a.data() + k * layout.columns);
        b.resize(static_cast<size_t>(one.rank));
        read = index;
      }
      one.read_b(row % layout.rows - layout.begin(slice), b.data());
      change.assign(static_cast<size_t>(here), 0.0f);
      for (int64_t k = 0; k < one.rank; ++k) {
        const float factor = b[static_cast<size_t>(k)] * (one.scale * scales_[f]);
        const float* const from = a.data() + k * layout.columns + column;
        for (int64_t i = 0; i < here; ++i) change[static_cast<size_t>(i)] += factor * from[i];
      }
      for (int64_t i = 0; i < here; ++i) to[i] += change[static_cast<size_t>(i)];
    }
  }
}

ModelConfig read_adapted_config(const fs::path& model, const std::vector<ChosenAdapter>& adapters) {
  ModelConfig config = read_model_config(model);
  config.adapters = AdapterSet(adapters, config).shapes();
  return config;
}

MergedWeights::MergedWeights(std::unique_ptr<WeightSource> base, const AdapterSet& adapters)
    : WeightSource(base->config()), base_(std::move(base)), adapters_(adapters) {}

DType MergedWeights::stored(size_t parameter, int64_t element) const {
  const DType type = base_->stored(parameter, element);
  return is_plain(type) || !adapters_.changes(parameter) ? type : DType::f32;
}

StoredElement MergedWeights::place(size_t parameter, int64_t element) const { return base_->place(parameter, element); }

void MergedWeights::read(size_t parameter, int64_t begin, int64_t count, float* values) const {
  base_->read(parameter, begin, count, values);
  if (!adapters_.changes(parameter) || first_not_finite(DType::f32, values, count) >= 0) return;
  adapters_.add_change(parameter, begin, count, values);
  const int64_t found = first_not_finite(DType::f32, values, count);
  if (found < 0) return;
  const StoredElement at = place(parameter, begin + found);
  fail("with the adapters, element {} of the tensor {} is {}, expected a finite number; choose a smaller scale",
       at.element, at.tensor, values[found]);
}

void MergedWeights::read(size_t parameter, int64_t begin, int64_t count, int32_t* values) const {
  base_->read(parameter, begin, count, values);
}

void MergedWeights::read_stored(size_t parameter, int64_t begin, int64_t count, void* bytes) const {
  if (!adapters_.changes(parameter)) return base_->read_stored(parameter, begin, count, bytes);
  std::vector<float> values(static_cast<size_t>(count));
  read(parameter, begin, count, values.data());
  storage(stored(parameter, begin)).from_floats(values.data(), bytes, count);
}

void MergedWeights::check_content() const { base_->check_content(); }

}  // namespace moe
