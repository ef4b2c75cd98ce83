package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// server is a process, and those that it started.
type server struct {
	cmd    *exec.Cmd
	exited chan struct{}
	log    string
}

// start starts a server in a process group of its own.
func start(command []string, log string) (*server, error) {
	out, err := os.Create(log)
	if err != nil {
		return nil, err
	}
	defer out.Close()
	cmd := exec.Command(command[0], command[1:]...)
	cmd.Stdout, cmd.Stderr = out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	s := &server{cmd: cmd, exited: make(chan struct{}), log: log}
	go func() {
		// How a server ends says nothing about the figures.
		_ = cmd.Wait()
		close(s.exited)
	}()
	return s, nil
}

// stop ends the server and what it started.
func (s *server) stop() {
	_ = syscall.Kill(-s.cmd.Process.Pid, syscall.SIGTERM)
	select {
	case <-s.exited:
	case <-time.After(15 * time.Second):
		_ = syscall.Kill(-s.cmd.Process.Pid, syscall.SIGKILL)
		<-s.exited
	}
}

// tick is the unit of times in /proc/PID/stat, on every Linux that Go runs on.
const tick = 10 * time.Millisecond

// cpu is the time that the server's processes have spent, in user and in system mode.
func (s *server) cpu() time.Duration {
	var ticks int
	for _, pid := range tree(s.cmd.Process.Pid) {
		stat, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		// The second field is the name, in parentheses, and may hold anything.
		fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
		if len(fields) < 13 {
			continue // it is gone
		}
		user, _ := strconv.Atoi(fields[11])
		system, _ := strconv.Atoi(fields[12])
		ticks += user + system
	}
	return time.Duration(ticks) * tick
}

// memory is what the server's processes hold, in bytes, each shared page divided by its users.
func (s *server) memory() int {
	var kib int
	for _, pid := range tree(s.cmd.Process.Pid) {
		rollup, _ := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
		for line := range strings.Lines(string(rollup)) {
			if size, ok := strings.CutPrefix(line, "Pss:"); ok {
				n, _ := strconv.Atoi(strings.TrimSuffix(strings.TrimSpace(size), " kB"))
				kib += n
			}
		}
	}
	return kib << 10
}

// tree is pid and the processes below it.
func tree(pid int) []int {
	pids := []int{pid}
	tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	for _, task := range tasks {
		children, _ := os.ReadFile(task)
		for _, child := range strings.Fields(string(children)) {
			if n, err := strconv.Atoi(child); err == nil {
				pids = append(pids, tree(n)...)
			}
		}
	}
	return pids
}
