// SPDX-License-Identifier: BSD-3-Clause
#include "main/nbdkit_captive.h"

#include <fmt/format.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <vector>

namespace nbdkit {
namespace {

// RFC 3986, 2.3: what needs no encoding anywhere; '/' and ':' are usual in both places.
bool is_plain(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
         std::string_view("-._~/:").find(c) != std::string_view::npos;
}

std::string percent_encode(std::string_view text) {
  std::string out;
  for (char c : text) {
    if (is_plain(c)) {
      out.push_back(c);
    } else {
      out += fmt::format("%{:02X}", static_cast<unsigned char>(c));
    }
  }
  return out;
}

// As system() has it: the terminal's keys are for the command.
void ignore_keys(void (*handler)(int)) {
  for (int number : {SIGINT, SIGQUIT}) ::signal(number, handler);
}

pid_t start_shell(const std::string& script, const StandardStreams& streams) {
  ignore_keys(SIG_IGN);
  pid_t pid = ::fork();
  if (pid != 0) return pid;
  ignore_keys(SIG_DFL);
  ::signal(SIGPIPE, SIG_DFL);
  if (::dup2(streams.in.get(), 0) < 0 || ::dup2(streams.out.get(), 1) < 0) ::_exit(127);
  ::execl("/bin/sh", "sh", "-c", script.c_str(), nullptr);
  ::_exit(127);
}

int wait_for(pid_t pid) {
  int status = 0;
  while (::waitpid(pid, &status, 0) < 0 && errno == EINTR) {
  }
  return status;
}

}  // namespace

std::string nbd_uri(const Address& address) {
  // Clients that do not ask for TLS go without it where they may.
  const std::string_view scheme = address.tls_required ? "nbds" : "nbd";
  std::string name = address.export_name.empty() ? "" : "/" + percent_encode(address.export_name);
  std::vector<std::string> query;
  std::string uri;
  if (address.vsock) {
    uri = fmt::format("{}+vsock://1:{}{}", scheme, address.port, name);  // of this machine
  } else if (address.unix_path.empty()) {
    uri = fmt::format("{}://{}:{}{}", scheme, address.host, address.port, name);
  } else {
    uri = fmt::format("{}+unix://{}", scheme, name);
    query.push_back("socket=" + percent_encode(address.unix_path));
  }
  if (address.tls_required && !address.tls_psk_file.empty()) {
    query.push_back("tls-psk-file=" + percent_encode(address.tls_psk_file));
  } else if (address.tls_required && !address.tls_certificates.empty()) {
    query.push_back("tls-certificates=" + percent_encode(address.tls_certificates));
  }
  return query.empty() ? uri : fmt::format("{}?{}", uri, fmt::join(query, "&"));
}

std::string shell_quote(std::string_view text) {
  std::string out = "'";
  for (char c : text) {
    if (c == '\'') {
      out += "'\\''";
    } else {
      out.push_back(c);
    }
  }
  return out + "'";
}

Result<void> print_uri(const Address& address, const StandardStreams& streams) {
  const std::string uri = nbd_uri(address);
  const std::string quoted = shell_quote(uri);
  const std::string text = fmt::format("{}\nuri={}\nnbdinfo {}\n", uri, quoted, quoted);
  // Less than PIPE_BUF unless a path is very long: it goes at once, or not at all.
  if (::write(streams.out.get(), text.data(), text.size()) < 0) return os_error("--print-uri");
  return {};
}

std::string captive_script(const Address& address, std::string_view command) {
  std::string uri = shell_quote(nbd_uri(address));
  std::string tls;
  if (address.tls) {
    tls = fmt::format("tls={}\ntls_certificates={}\ntls_psk={}\n", address.tls_required ? 2 : 1,
                      shell_quote(address.tls_certificates), shell_quote(address.tls_psk_file));
  }
  return fmt::format("uri={}\nnbd={}\nexportname={}\nport={}\nunixsocket={}\n{}{}", uri, uri,
                     shell_quote(address.export_name),
                     address.port == 0 ? "''" : fmt::format("{}", address.port),
                     shell_quote(address.unix_path), tls, command);
}

int run_captive(const Address& address, std::string_view command, StandardStreams streams,
                const Child& server, Log& log) {
  pid_t shell = start_shell(captive_script(address, command), streams);
  int status = 1;
  if (shell < 0) {
    log.error("", "--run: {}", os_error("fork").message());
  } else {
    streams = {};
    int wait_status = wait_for(shell);
    status = shell_status(wait_status);
    if (WIFSIGNALED(wait_status)) {
      log.error("", "external command was killed by signal {}", WTERMSIG(wait_status));
    }
  }
  // It cannot be the number of another process: nobody else waits for this child.
  ::kill(server.pid(), SIGTERM);
  int server_status = server.wait_for_end(log);
  return status != 0 ? status : server_status;
}

}  // namespace nbdkit
