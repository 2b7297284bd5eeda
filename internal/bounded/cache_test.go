package bounded

import (
	"sync"
	"testing"
)

func TestCacheKeepsAtMostTwiceItsSize(t *testing.T) {
	t.Parallel()
	c := New[int, int](100)
	for i := range 10_000 {
		c.Put(i, i)
		if n := c.Len(); n > 200 {
			t.Fatalf("after %d entries: Len() = %d, want at most 200", i, n)
		}
	}
	for i := 9_950; i < 10_000; i++ {
		if v, ok := c.Get(i); !ok || v != i {
			t.Errorf("Get(%d) = %d, %t, want the recent entry", i, v, ok)
		}
	}
	if _, ok := c.Get(1); ok {
		t.Error("Get(1) found an entry that must have been forgotten")
	}
	c.Clear()
	if n := c.Len(); n != 0 {
		t.Errorf("after Clear: Len() = %d", n)
	}
}

func TestCacheUseKeepsAnEntry(t *testing.T) {
	t.Parallel()
	c := New[int, string](10)
	c.Put(-1, "kept")
	for i := range 1_000 {
		c.Put(i, "")
		if i%5 == 0 {
			if _, ok := c.Get(-1); !ok {
				t.Fatalf("the entry in use was forgotten after %d others", i)
			}
		}
	}
}

func TestCacheAddReturnsTheFirst(t *testing.T) {
	t.Parallel()
	c := New[string, *int](8)
	var wg sync.WaitGroup
	got := make([]*int, 16)
	for i := range got {
		wg.Go(func() { got[i] = c.Add("k", new(int)) })
	}
	wg.Wait()
	for i, p := range got {
		if p != got[0] {
			t.Errorf("Add %d returned another value than Add 0", i)
		}
	}
}
