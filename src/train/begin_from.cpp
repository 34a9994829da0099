#include "train/begin_from.h"

#include <algorithm>
#include <map>
#include <string>

#include "base/error.h"
#include "ops/transfer.h"
#include "tensor/finite.h"

namespace moe {
namespace {

constexpr int64_t kAtOnce = int64_t{1} << 20;

class Filler {
 public:
  Filler(const WeightSource& source, Device& device) : source_(source), device_(device) {}

  /// Elements [begin, begin + count) of a parameter, to the elements of `to` from `at` on.
  void copy(size_t parameter, int64_t begin, int64_t count, const View& to, int64_t at) {
    for (int64_t done = 0; done < count; done += kAtOnce) {
      const int64_t some = std::min(kAtOnce, count - done);
      write(read(parameter, begin + done, some), to, at + done);
    }
  }

  void copy_table(size_t parameter, const View& to) {
    std::vector<int32_t> values(static_cast<size_t>(to.elements()));
    source_.read(parameter, 0, to.elements(), values.data());
    upload_vector(device_, to, values);
  }

  void fill_with_mean(size_t parameter, const NewTokens& tokens, const View& to) {
    const int64_t old = tokens.first;
    const int64_t width = to.size(1), rows_at_once = std::max<int64_t>(1, kAtOnce / width);
    std::vector<double> sums(static_cast<size_t>(width));
    for (int64_t row = 0; row < old; row += rows_at_once) {
      const std::vector<float>& values = read(parameter, row * width, std::min(rows_at_once, old - row) * width);
      for (size_t i = 0; i < values.size(); ++i) sums[i % sums.size()] += values[i];
    }
    std::vector<float> mean;
    for (const double sum : sums) mean.push_back(static_cast<float>(sum / static_cast<double>(old)));
    for (int64_t row = tokens.first; row < tokens.end; ++row) write(mean, to, row * width);
  }

 private:
  const std::vector<float>& read(size_t parameter, int64_t begin, int64_t count) {
    values_.resize(static_cast<size_t>(count));
    source_.read(parameter, begin, count, values_.data());
    if (const int64_t bad = first_not_finite(DType::f32, values_.data(), count); bad >= 0) {
      const StoredElement place = source_.place(parameter, begin + bad);
      fail("{}: element {} of {} is not finite; use another copy or checkpoint of the model", place.file, place.element,
           place.tensor);
    }
    return values_;
  }

  void write(const std::vector<float>& values, const View& to, int64_t at) {
    upload_floats(device_, to.reshaped({to.elements()}).rows(at, static_cast<int64_t>(values.size())), values);
  }

  const WeightSource& source_;
  Device& device_;
  std::vector<float> values_;
};

}  // namespace

void begin_from(const WeightSource& source, const NewTokens& tokens, const TrainingStep& step, Device& device) {
  source.check_content();
  Filler filler(source, device);
  std::map<std::string, size_t> places;
  for (size_t i = 0; i < source.table().size(); ++i) places[source.table()[i].name] = i;
  for (size_t index = 0; index < step.table().size(); ++index) {
    const Parameter& parameter = step.table()[index];
    const size_t i = places.at(parameter.name);
    const View &value = step.parameters()[index], &master = step.masters()[index];
    if (parameter.is_table()) {
      filler.copy_table(i, value);
      continue;
    }
    const Shape& there = source.table()[i].shape;
    if (parameter.experts.empty() || master.elements() == parameter.shape.elements()) {
      filler.copy(i, parameter.elements_before(), std::min(there.elements(), master.elements()), master, 0);
    } else {  // the masters of the experts that train, and the others' rounded weights
      filler.copy(i, 0, there.elements(), value, 0);
      const int64_t each = there.elements() / there[0];
      for (const ExpertRun& run : parameter.trained_runs()) {
        filler.copy(i, run.first * each, run.count * each, master, run.at * each);
      }
    }
    const bool by_token = parameter.role == ParameterRole::embedding || parameter.role == ParameterRole::head;
    if (by_token && tokens.first < tokens.end) filler.fill_with_mean(i, tokens, master);
  }
}

}  // namespace moe
