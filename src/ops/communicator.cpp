#include "ops/communicator.h"

#include <cstring>

namespace moe {

RankLost::RankLost(int lost, const std::string& host, int64_t step, const std::string& why)
    : Error(fmt::format("rank {}{} ended{}: {}", lost, host.empty() ? "" : " on " + host,
                        step > 0 ? fmt::format(" in step {}", step) : "", why)),
      rank(lost) {}

std::vector<double> Communicator::sums(const std::vector<double>& values) {
  const size_t bytes = values.size() * sizeof(double);
  std::vector<double> total(values.size());
  for (const std::string& part : gather(std::string(reinterpret_cast<const char*>(values.data()), bytes))) {
    MOE_CHECK(part.size() == bytes);
    for (size_t i = 0; i < total.size(); ++i) {
      double value;
      std::memcpy(&value, part.data() + i * sizeof(value), sizeof(value));
      total[i] += value;
    }
  }
  return total;
}

}  // namespace moe
