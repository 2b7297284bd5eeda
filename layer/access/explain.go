package access

// An Explanation says why policy decided as it did and what would have changed its mind. It is for
// operators: it names policies and attributes.
type Explanation struct {
	Decision Decision
	Policies []Judgement // every policy that was asked, in order of its id
	Flips    []Flip      // single changes that turn the decision around
	Complete bool        // false if the search for changes stopped at its bound
}

// A Judgement is what one policy said.
type Judgement struct {
	ID      string `json:"id"`
	Effect  string `json:"effect"` // "permit" or "forbid"
	Source  string `json:"source"` // file:line:column
	Applies bool   `json:"applies"`
	Error   string `json:"error,omitempty"`
}

// A Flip is one change of one attribute that turns the decision around.
type Flip struct {
	Change   string   `json:"change"` // such as `without group "eng"`
	Allow    bool     `json:"allow"`  // the decision after the change
	Policies []string `json:"policies"`
}
