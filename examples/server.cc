// A web server with one thread for its sockets and a pool for its pages: 200 with the page, 503 when the pool is full or shuts
// down, 504 when a page takes too long, 500 when it throws; a client that leaves takes its task along. The loop never waits
// for a page: tasks that have ended come through a completion queue, whose descriptor it polls beside the sockets.
//
//     ./server 8080            serves until Ctrl-C: curl -i localhost:8080/hello
//     DULY_EXAMPLE_QUICK=1     asks itself for one of each and ends
//
// Build: c++ -std=c++17 -O2 examples/server.cc -Iinclude -lduly -pthread
#include <arpa/inet.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <stdexcept>
#include <string>
#include <system_error>
#include <thread>
#include <vector>

#include "duly.hpp"

using namespace std::chrono_literals;

static std::atomic<bool> stopped{false};
static std::atomic<int> clients_left{0};

// Waits that long, unless the task has its answer before: then the callback leaves early.
static void work_for(std::chrono::milliseconds span, duly::context &here) {
    const auto own = here.token();
    if (own.wait_for(span)) here.check();
}

// What a page costs. It runs on a worker and may throw.
static std::string page(const std::string &path, duly::context &here) {
    if (path == "/hello") return "hello\n";
    if (path == "/busy") work_for(200ms, here);
    if (path == "/slow") work_for(30s, here);
    if (path == "/broken") throw std::runtime_error("this page is broken");
    return "done: " + path + "\n";
}

class server {
public:
    server(const duly::pool &pool, int port) : pool_(pool), listener_(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
        const int yes = 1;
        setsockopt(listener_, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
        sockaddr_in address{};
        address.sin_family = AF_INET;
        address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        address.sin_port = htons(static_cast<std::uint16_t>(port));
        socklen_t size = sizeof address;
        auto *plain = reinterpret_cast<sockaddr *>(&address);
        if (listener_ < 0 || bind(listener_, plain, size) != 0 || listen(listener_, 64) != 0 ||
            getsockname(listener_, plain, &size) != 0)
            throw std::system_error(errno, std::generic_category(), "listen on port " + std::to_string(port));
        port_ = ntohs(address.sin_port);
    }
    server(const server &) = delete;
    server &operator=(const server &) = delete;
    ~server() {
        for (auto &each : clients_) close(each.second.socket);
        close(listener_);
    }

    int port() const { return port_; }

    void serve() {
        while (!stopped) {
            std::vector<pollfd> watched = {{listener_, POLLIN, 0}, {ended_.fd(), POLLIN, 0}};
            std::vector<std::uint64_t> ids;
            for (const auto &[id, from] : clients_) {
                watched.push_back({from.socket, POLLIN | POLLRDHUP, 0});
                ids.push_back(id);
            }
            if (poll(watched.data(), watched.size(), 100) <= 0) continue;
            for (std::size_t i = 0; i < ids.size(); i++)
                if (watched[i + 2].revents) heard(ids[i], watched[i + 2].revents);
            for (const auto &done : ended_.take(0s)) answer(done);
            if (!watched[0].revents) continue;
            const int fresh = accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC);
            if (fresh >= 0) clients_[++last_].socket = fresh;
        }
    }

private:
    struct client {
        int socket = -1;
        std::string request;
        duly::task<std::string> task;
    };

    void heard(std::uint64_t id, int events) {
        client &from = clients_[id];
        char some[2048];
        const ssize_t got = recv(from.socket, some, sizeof some, MSG_DONTWAIT);
        if (got > 0) from.request.append(some, static_cast<std::size_t>(got));
        if (got == 0 || (events & (POLLRDHUP | POLLHUP | POLLERR))) {
            // Nobody waits for this page any more: its place in the queue is free at once.
            if (from.task.cancel("caller_left")) clients_left++;
            return leave(id);
        }
        if (from.task || from.request.find("\r\n\r\n") == std::string::npos) return;
        const auto begin = from.request.find(' ') + 1;
        const std::string path = from.request.substr(begin, from.request.find(' ', begin) - begin);
        std::error_code refused;
        from.task = pool_.try_submit(duly::task_options().label(path).timeout(500ms).report_to(ended_, id),
                                     [path](duly::context &here) { return page(path, here); }, refused);
        if (refused == duly::status::queue_full || refused == duly::status::shut_down)
            respond(id, "503 Service Unavailable", refused.message());
        else if (refused)
            respond(id, "500 Internal Server Error", refused.message());
    }

    void answer(const duly::completion &done) {
        const auto found = clients_.find(done.tag);
        if (found == clients_.end()) return;
        std::error_code code;
        switch (done.outcome) {
        case duly::outcome::succeeded: return respond(done.tag, "200 OK", *found->second.task.get(code));
        case duly::outcome::deadline_exceeded: return respond(done.tag, "504 Gateway Timeout", "it took too long");
        case duly::outcome::failed: return respond(done.tag, "500 Internal Server Error", done.task.message());
        default: return respond(done.tag, "503 Service Unavailable", duly::name(done.outcome));
        }
    }

    void respond(std::uint64_t id, const std::string &status, const std::string &body) {
        const std::string all = "HTTP/1.1 " + status + "\r\nContent-Length: " + std::to_string(body.size()) +
                                "\r\nConnection: close\r\n\r\n" + body;
        (void)!send(clients_[id].socket, all.data(), all.size(), MSG_NOSIGNAL);
        leave(id);
    }

    void leave(std::uint64_t id) {
        close(clients_[id].socket);
        clients_.erase(id);
    }

    duly::pool pool_;
    duly::completions ended_{256};
    int listener_;
    int port_ = 0;
    std::uint64_t last_ = 0;
    std::map<std::uint64_t, client> clients_;
};

// A client: connects and asks.
static int ask(int port, const std::string &path) {
    const int out = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    address.sin_port = htons(static_cast<std::uint16_t>(port));
    const std::string request = "GET " + path + " HTTP/1.1\r\nHost: localhost\r\n\r\n";
    if (connect(out, reinterpret_cast<const sockaddr *>(&address), sizeof address) == 0)
        (void)!send(out, request.data(), request.size(), MSG_NOSIGNAL);
    return out;
}

// The status that comes back; 0 if none does.
static int status_of(int from) {
    char words[512] = "";
    const ssize_t got = recv(from, words, sizeof words - 1, 0);
    close(from);
    return got > 12 ? std::atoi(words + 9) : 0;
}

// One of each; true if each is answered as it should be.
static bool ask_for_one_of_each(int port) {
    bool good = true;
    const std::pair<const char *, int> pages[] = {{"/hello", 200}, {"/slow", 504}, {"/broken", 500}};
    for (const auto &[path, wanted] : pages) {
        // A busy machine may need more than the server's 500 ms, once.
        int status = 0;
        for (int turn = 0; turn < 10 && status != wanted; turn++) status = status_of(ask(port, path));
        std::printf("%-8s %d\n", path, status);
        good &= status == wanted;
    }
    std::map<int, int> statuses;
    for (int turn = 0; turn < 10 && !(statuses[200] > 0 && statuses[503] > 0); turn++) {
        std::vector<int> many;
        statuses.clear();
        for (int i = 0; i < 20; i++) many.push_back(ask(port, "/busy"));
        for (const int one : many) statuses[status_of(one)]++;
    }
    for (const auto &[status, count] : statuses) std::printf("%-8s %d, %d times\n", "/busy", status, count);
    good &= statuses[200] > 0 && statuses[503] > 0;
    // On a busy machine it may leave before its request was read, which is none.
    for (int turn = 0; turn < 10 && clients_left == 0; turn++) {
        const int leaves = ask(port, "/slow");
        std::this_thread::sleep_for(100ms);
        close(leaves);
        for (int i = 0; i < 100 && clients_left == 0; i++) std::this_thread::sleep_for(10ms);
    }
    std::printf("%-8s left by %d client\n", "/slow", clients_left.load());
    return good && clients_left > 0;
}

int main(int count, char **arguments) try {
    const bool quick = std::getenv("DULY_EXAMPLE_QUICK") != nullptr;
    const duly::pool pool(duly::pool_options().name("pages").workers(2).capacity(4));
    bool good = true;
    {
        server pages(pool, quick ? 0 : count > 1 ? std::atoi(arguments[1]) : 8080);
        std::signal(SIGINT, [](int) { stopped = true; });
        std::signal(SIGTERM, [](int) { stopped = true; });
        if (quick) {
            std::thread loop([&] { pages.serve(); });
            good = ask_for_one_of_each(pages.port());
            stopped = true;
            loop.join();
        } else {
            std::printf("http://localhost:%d/hello, /busy, /slow, /broken; Ctrl-C ends it\n", pages.port());
            pages.serve();
        }
    }
    std::puts(pool.shutdown(2s).text().c_str());
    return good ? 0 : 1;
} catch (const std::exception &thrown) {
    std::fprintf(stderr, "server: %s\n", thrown.what());
    return 1;
}
