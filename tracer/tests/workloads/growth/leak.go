// A subscription list that never forgets, in Go: each round adds 64 KiB in blocks of 1 KiB.
// Reads a number of rounds per line, and how much it is to compute in each besides (if it is), and answers with the
// resident anonymous memory in KiB.
package main

import (
	"bufio"
	"fmt"
	"os"
	"strconv"
	"strings"
)

var subscribers [][]byte
var sum uint64

//go:noinline
func subscribe() {
	block := make([]byte, 1024)
	for at := range block {
		block[at] = 1
	}
	subscribers = append(subscribers, block)
}

//go:noinline
func compute(steps int) {
	for step := 0; step < steps; step++ {
		sum = sum*31 + uint64(step)
	}
}

//go:noinline
func serve(rounds int, steps int) {
	for round := 0; round < rounds; round++ {
		compute(steps)
		for block := 0; block < 64; block++ {
			subscribe()
		}
	}
}

func residentKiB() string {
	status, _ := os.ReadFile("/proc/self/status")
	for _, line := range strings.Split(string(status), "\n") {
		if strings.HasPrefix(line, "RssAnon:") {
			return strings.Fields(line)[1]
		}
	}
	return "0"
}

func main() {
	fmt.Println("ready")
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		words := append(strings.Fields(lines.Text()), "0")
		rounds, _ := strconv.Atoi(words[0])
		steps, _ := strconv.Atoi(words[1])
		serve(rounds, steps)
		fmt.Println(residentKiB())
	}
}
