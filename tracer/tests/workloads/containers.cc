// containers: the library's own containers grow; what they ask for follows from their capacities.
#include "truth.h"
#include <list>
#include <string>
#include <vector>

static site *s_vector, *s_string, *s_list, *s_object;

struct Node {
    long words[7];
};

FRAME static void grow_vector(std::vector<Node> &vector, long count) {
    for (long at = 0; at < count; at++) {
        long before = static_cast<long>(vector.capacity() * sizeof(Node));
        vector.push_back(Node{{at}});
        long now = static_cast<long>(vector.capacity() * sizeof(Node));
        if (now != before) {
            if (before != 0) gave(s_vector, before);
            took(s_vector, now);
        }
    }
}

FRAME static void grow_string(std::string &string, long count) {
    for (long at = 0; at < count; at++) {
        size_t before = string.capacity();
        string.push_back('x');
        size_t now = string.capacity();
        if (now != before) {
            // Up to 15 characters lie in the string itself; beyond that there is a byte for the NUL.
            if (before > 15) gave(s_string, static_cast<long>(before + 1));
            took(s_string, static_cast<long>(now + 1));
        }
    }
}

FRAME static void grow_list(std::list<Node> &list, long count) {
    for (long at = 0; at < count; at++) {
        list.push_back(Node{{at}});
        // Two links and the value.
        took(s_list, static_cast<long>(sizeof(Node) + 2 * sizeof(void *)));
    }
}

FRAME static Node *make_object(long value) {
    Node *node = new Node{{value}};
    KEEP(node);
    took(s_object, sizeof(Node));
    return node;
}

FRAME static void work() {
    static std::vector<Node> vector;
    static std::string string;
    static std::list<Node> list;
    // Where operator new only calls malloc, it is a frame of its own.
    s_vector = heap("*", "**;grow_vector;work;main");
    s_string = heap("*", "**;grow_string;work;main");
    s_list = heap("*", "**;grow_list;work;main");
    s_object = heap("*", "**;make_object;work;main");
    grow_vector(vector, 5000);
    grow_string(string, 70000);
    grow_list(list, 900);
    for (long at = 0; at < 300; at++) {
        Node *node = make_object(at);
        if (at % 3) {
            gave(s_object, sizeof(Node));
            delete node;
        }
    }
}

int main() {
    wait_for_go();
    work();
    say("covers work\n");
    finish();
    // What is told is told of the end: nothing is destroyed.
    _exit(0);
}
