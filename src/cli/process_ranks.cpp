#include "cli/process_ranks.h"

#include <array>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <sys/wait.h>
#include <thread>

#include <fcntl.h>
#include <spawn.h>
#include <unistd.h>

#include "backend/cuda/cuda_backend.h"
#include "base/activity.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "base/signal_cleanup.h"
#include "cli/exit_status.h"
#include "cli/terminal_mode.h"
#include "comm/one_rank.h"
#include "train/ranks.h"
#include "train/trainer.h"

extern char** environ;

namespace moe {
namespace {

/// For the processes of other ranks to end after rank 0's work.
constexpr double kEndSeconds = 5;

constexpr int kInterrupted = 130;

/// The processes that this one has started. Signal handlers read it.
constexpr size_t kMostProcesses = 1024;
std::array<std::atomic<pid_t>, kMostProcesses> started;
std::atomic<size_t> started_count = 0;

void end_all(int signal) {
  for (size_t i = 0; i < started_count; ++i) ::kill(started[i], SIGKILL);
  if (signal == SIGINT) end_with_status(kInterrupted);
  end_by_signal(signal);
}

/// The variable that gives rank 0's process to those that it has started.
constexpr const char* kStartedBy = "MOE_RANKS_STARTED_BY";

std::vector<char*> pointers_to(std::vector<std::string>& words) {
  std::vector<char*> pointers;
  for (std::string& word : words) pointers.push_back(word.data());
  pointers.push_back(nullptr);
  return pointers;
}

/// This process's environment with other values for some variables.
std::vector<std::string> environment_with(const std::vector<std::pair<std::string, std::string>>& set) {
  std::vector<std::string> all;
  for (char** one = environ; *one != nullptr; ++one) {
    bool replaced = false;
    for (const auto& [name, value] : set) replaced = replaced || std::string_view(*one).starts_with(name + "=");
    if (!replaced) all.emplace_back(*one);
  }
  for (const auto& [name, value] : set) all.push_back(name + "=" + value);
  return all;
}

}  // namespace

std::vector<std::string> own_command_line() {
  const std::string text = read_file("/proc/self/cmdline");
  std::vector<std::string> words;
  for (size_t begin = 0; begin < text.size(); begin = text.find('\0', begin) + 1) words.emplace_back(&text[begin]);
  return words;
}

ProcessRanks::ProcessRanks(int wanted, const RankUse& use) : use_(use) {
  const bool asks = wanted > 1 || use.without_option;
  if (const auto launch = asks ? launch_from_environment() : std::nullopt) {
    launch_ = *launch;
    launched_ = true;
    if (wanted > 0 && wanted != size()) {
      fail_usage("--ranks {}, but {} is {}; give --ranks {}, or leave it out", wanted, launch->set, size(), size());
    }
  } else if (wanted > 1) {
    launch_.place.size = launch_.ranks_here = wanted;
  }
}

ProcessRanks::~ProcessRanks() {
  communicator_.reset();  // says that this rank is done
  started_count = 0;
  const double end = steady_seconds() + kEndSeconds;
  for (const int process : processes_) {
    while (::waitpid(process, nullptr, WNOHANG) == 0) {
      if (steady_seconds() > end) ::kill(process, SIGKILL);
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
  }
}

DeviceOptions ProcessRanks::part_of(DeviceOptions device) const {
  if (launch_.ranks_here > 1 && device.threads == 0) {
    device.threads = std::max(1, static_cast<int>(std::thread::hardware_concurrency()) / launch_.ranks_here);
  }
  // A launcher may have left each process a GPU of its own as the only visible one.
  if (size() > 1 && device_kind(device) == DeviceKind::cuda && cuda_gpus() > 1) device.gpu = launch_.number_here;
  return device;
}

Place ProcessRanks::part_of(Place place, DeviceKind kind) const {
  if (kind == DeviceKind::cpu) place.device.available_bytes /= launch_.ranks_here;
  place.host_bytes /= launch_.ranks_here;
  return place;
}

int64_t ProcessRanks::part_of(int64_t free_bytes, DeviceKind kind) const {
  return kind == DeviceKind::cpu && free_bytes > 0 ? free_bytes / launch_.ranks_here : free_bytes;
}

void ProcessRanks::check_gpus(const DeviceOptions& device) const {
  if (size() == 1 || device_kind(device) == DeviceKind::cpu) return;
  check_device(device);
  const int gpus = cuda_gpus();
  const bool one_each = launched_ && gpus == 1;  // NCCL finds out if it is the same one
  if (gpus >= launch_.ranks_here || one_each) return;
  fail_usage("--device {}: {} ranks on this machine need a GPU each, and it has {}; use {}, or --device cpu",
             device.device, launch_.ranks_here, gpus, gpus == 1 ? "one rank" : fmt::format("{} ranks", gpus));
}

void ProcessRanks::start_others(int port) {
  std::vector<std::string> words = own_command_line();
  for (int rank = 1; rank < size(); ++rank) {
    std::vector<std::string> variables = environment_with({{"RANK", std::to_string(rank)},
                                                           {"WORLD_SIZE", std::to_string(size())},
                                                           {"LOCAL_RANK", std::to_string(rank)},
                                                           {"LOCAL_WORLD_SIZE", std::to_string(size())},
                                                           {"MASTER_ADDR", launch_.place.address},
                                                           {"MASTER_PORT", std::to_string(port)},
                                                           {kStartedBy, std::to_string(::getpid())}});
    posix_spawn_file_actions_t files;
    posix_spawn_file_actions_init(&files);
    posix_spawn_file_actions_addopen(&files, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
    pid_t process = 0;
    const int error = ::posix_spawn(&process, "/proc/self/exe", &files, nullptr, pointers_to(words).data(),
                                    pointers_to(variables).data());
    posix_spawn_file_actions_destroy(&files);
    if (error != 0) {
      fail("rank {} of {} could not be started: {}; use fewer ranks", rank, size(), std::strerror(error));
    }
    processes_.push_back(process);
    if (started_count < kMostProcesses) {
      started[started_count] = process;
      ++started_count;
    }
  }
}

void ProcessRanks::check_processes() const {
  constexpr const char* kBefore = "before all ranks had met";
  for (size_t i = 0; i < processes_.size(); ++i) {
    siginfo_t info{};
    if (::waitid(P_PID, static_cast<id_t>(processes_[i]), &info, WEXITED | WNOHANG | WNOWAIT) != 0) continue;
    if (info.si_pid != processes_[i]) continue;  // it runs
    const std::string how = info.si_code == CLD_EXITED ? fmt::format("it ended with status {}", info.si_status)
                                                       : fmt::format("it was killed by signal {}", info.si_status);
    throw RankLost(static_cast<int>(i) + 1, host_name(), 0, fmt::format("{} {}", how, kBefore));
  }
  const char* const parent = std::getenv(kStartedBy);
  if (rank() > 0 && parent != nullptr && std::to_string(::getppid()) != parent) {
    fail("rank 0 on {} ended {}", host_name(), kBefore);  // it cannot say so itself
  }
}

Communicator& ProcessRanks::connect() {
  if (size() == 1) return one_rank();
  if (rank() == 0) {
    listener_ = std::make_unique<Listener>(launched_ ? launch_.place.port : 0, !launched_);
    launch_.place.port = listener_->port();
    if (!launched_) start_others(launch_.place.port);
  }
  Watch::Options options;
  options.hang = use_.hang;
  options.give_up = [this, terminal = TerminalMode()](const RankLost& rank) {
    terminal.give_back();  // a chat may be waiting for its person
    lost(rank, use_.after_loss);
    for (const int process : processes_) ::kill(process, SIGKILL);
    end_with_status(kRankLostStatus);
  };
  launch_.place.check = [this] { check_processes(); };
  communicator_ = std::make_unique<SocketCommunicator>(launch_.place, listener_.get(), options);
  return *communicator_;
}

std::unique_ptr<Communicator> ProcessRanks::connect_gpus(Compute& compute) {
  if (size() == 1 || compute.kind != DeviceKind::cuda) return nullptr;
  return make_cuda_communicator(*communicator_, *compute.device);
}

void ProcessRanks::end_all_on_signals() {
  std::signal(SIGINT, end_all);
  for (const int signal : {SIGHUP, SIGQUIT, SIGTERM, SIGPIPE}) {
    if (std::signal(signal, end_all) == SIG_IGN) std::signal(signal, SIG_IGN);  // as under nohup
  }
}

void ProcessRanks::say(const std::string& error) const {
  set_quiet(false);
  log_info("error: {}{}", rank() == 0 ? "" : fmt::format("rank {} on {}: ", rank(), host_name()), error);
}

// Rank 0 speaks for all. If rank 0 itself was lost and could not speak, everybody does.
int ProcessRanks::lost(const RankLost& lost, const std::string& more) const {
  const bool said = communicator_ == nullptr || communicator_->lost_said_why();
  if (rank() == 0 || (lost.rank == 0 && !said)) say(lost.what() + more);
  return kRankLostStatus;
}

int ProcessRanks::run(const std::function<int()>& work) {
  if (size() == 1) return work();
  set_quiet(rank() != 0);
  const auto tell = [&](const std::exception& error) {
    if (communicator_ != nullptr) communicator_->abort(sentence_of(error));
  };
  try {
    return work();
  } catch (const RankLost& error) {
    return lost(error);
  } catch (const SharedError& error) {  // every rank throws it
    if (rank() == 0) throw;
  } catch (const Diverged& error) {  // so too
    if (rank() == 0) throw;
  } catch (const std::exception& error) {
    tell(error);
    if (rank() == 0) throw;
    say(sentence_of(error));
  }
  return 1;
}

}  // namespace moe
