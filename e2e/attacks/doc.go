// Package attacks plays attackers against a whole gateway: every attack must fail at the step that is there
// to stop it, leave its record, and reach nothing, while the same flow without the attack goes through.
package attacks
