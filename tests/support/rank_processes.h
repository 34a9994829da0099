#pragma once
/// Ranks as processes of a test: each runs one test of the same program.

#include <chrono>
#include <csignal>
#include <cstdlib>
#include <fstream>
#include <sstream>
#include <string>
#include <sys/wait.h>
#include <thread>
#include <vector>

#include <unistd.h>

#include "comm/socket_communicator.h"
#include "tests/support/temporary_folder.h"

namespace moe::test {

constexpr const char* kRankVariable = "MOE_TEST_RANK";  // rank, number of ranks, folder where they meet

/// Calls work(communicator) if this process is such a rank. False: it is none.
template <class Work>
bool as_rank_process(const Work& work) {
  const char* const text = std::getenv(kRankVariable);
  if (text == nullptr) return false;
  RankPlace place;
  fs::path folder;
  std::istringstream(text) >> place.rank >> place.size >> folder;
  const fs::path port = folder / "port";
  std::optional<Listener> listener;
  if (place.rank == 0) {
    listener.emplace(0, true);
    place.port = listener->port();
    std::ofstream(folder / "written") << place.port << '\n';
    fs::rename(folder / "written", port);
  } else {
    while (!fs::exists(port)) std::this_thread::sleep_for(std::chrono::milliseconds(10));
    std::ifstream(port) >> place.port;
  }
  SocketCommunicator communicator(place, listener ? &*listener : nullptr);
  work(communicator);
  return true;
}

/// Runs the test `name` of this program in `size` processes, as ranks. "" if all succeed within `limit`, else what they
/// printed.
inline std::string failure_of_rank_processes(const std::string& name, int size, std::chrono::seconds limit) {
  const TemporaryFolder folder;
  const auto output = [&](int rank) { return folder / fmt::format("rank-{}.txt", rank); };
  std::vector<pid_t> processes;
  for (int rank = 0; rank < size; ++rank) {
    const std::string place = fmt::format("{}={} {} {}", kRankVariable, rank, size, (folder / "").string());
    const std::string filter = "--gtest_filter=" + name, file = output(rank).string();
    std::vector<const char*> variables;
    for (char** variable = environ; *variable != nullptr; ++variable) variables.push_back(*variable);
    variables.push_back(place.c_str());
    variables.push_back(nullptr);
    const char* const arguments[] = {"test", filter.c_str(), nullptr};
    const pid_t process = ::fork();
    if (process == 0) {
      if (std::freopen(file.c_str(), "w", stdout) == nullptr || ::dup2(STDOUT_FILENO, STDERR_FILENO) < 0) ::_exit(126);
      ::execve("/proc/self/exe", const_cast<char* const*>(arguments), const_cast<char* const*>(variables.data()));
      ::_exit(127);
    }
    processes.push_back(process);
  }
  std::string failures;
  const auto end = std::chrono::steady_clock::now() + limit;
  for (int rank = 0; rank < size; ++rank) {
    int status = 0;
    while (::waitpid(processes[static_cast<size_t>(rank)], &status, WNOHANG) == 0) {
      if (std::chrono::steady_clock::now() > end) ::kill(processes[static_cast<size_t>(rank)], SIGKILL);
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
    }
    if (status == 0) continue;
    std::stringstream printed;
    printed << std::ifstream(output(rank)).rdbuf();
    failures += fmt::format("rank {} of {}: status {}\n{}\n", rank, size, status, printed.str());
  }
  return failures;
}

}  // namespace moe::test
