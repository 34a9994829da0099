#pragma once
/// The ranks of a command, which are processes: starting them, their meeting, and what becomes of an error of one.

#include <functional>
#include <memory>
#include <vector>

#include "cli/device_option.h"
#include "comm/launch.h"
#include "comm/socket_communicator.h"
#include "ops/communicator.h"
#include "train/run_memory.h"

namespace moe {

/// The exit status of a rank that ends because another one has ended: it may be tried again.
constexpr int kRankLostStatus = 75;

/// The words of this program's command line, with its own name.
std::vector<std::string> own_command_line();

/// How a command uses ranks.
struct RankUse {
  /// A launcher's ranks are taken without --ranks, too. Otherwise they are processes that have nothing to do with each
  /// other, unless --ranks is given.
  bool without_option = false;
  const char* after_loss = "";  ///< the end of the sentence that tells that a rank was lost
  HangLimits hang = {};
};

/// For the main thread.
class ProcessRanks {
 public:
  /// `wanted`: of --ranks; 0: not given. What a launcher has set in the environment comes first.
  ProcessRanks(int wanted, const RankUse& use);
  /// Waits for the processes that connect() has started, and ends those that do not end.
  ~ProcessRanks();
  ProcessRanks(const ProcessRanks&) = delete;
  ProcessRanks& operator=(const ProcessRanks&) = delete;

  int rank() const { return launch_.place.rank; }
  int size() const { return launch_.place.size; }

  /// Each rank's part of this machine: a GPU; of its processors, if no number of threads is given; and of its memory.
  DeviceOptions part_of(DeviceOptions device) const;
  Place part_of(Place place, DeviceKind kind) const;
  int64_t part_of(int64_t free_bytes, DeviceKind kind) const;
  /// Refuses, if the ranks compute on GPUs, more of them than there are GPUs here.
  void check_gpus(const DeviceOptions& device) const;

  /// From now on a signal that ends this process also ends, without a word, those that connect() starts. SIGINT ends it
  /// with status 130.
  static void end_all_on_signals();

  /// Does the work of this rank and returns its status. A rank other than 0 is quiet. An error tells the others, and is
  /// said once: by rank 0, or by the rank that has it.
  int run(const std::function<int()>& work);

  /// Meets the other ranks; if no launcher has started them, starts them. Call it once, inside run().
  Communicator& connect();
  /// What carries views of this rank's device: of GPUs another one than connect() returned, which must not be used for
  /// views then. Call it once, after connect().
  std::unique_ptr<Communicator> connect_gpus(Compute& compute);

 private:
  void start_others(int port);
  /// Throws RankLost if a process that rank 0 has started has ended, and an Error if rank 0 has ended that started
  /// this.
  void check_processes() const;
  void say(const std::string& error) const;
  int lost(const RankLost& lost, const std::string& more = "") const;

  RankUse use_;
  Launch launch_;
  bool launched_ = false;  // by a launcher, or by rank 0
  std::vector<int> processes_;
  std::unique_ptr<Listener> listener_;
  std::unique_ptr<SocketCommunicator> communicator_;
};

}  // namespace moe
