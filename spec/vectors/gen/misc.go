package main
func scheduleVectors(){}
func syntaxVectors(){}
func contentVectors(){}
func requestVectors(){}
func answerVectors(){}
func smallVectors(){}
